package workload

import (
	"bytes"
	"compress/gzip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadTrace(t *testing.T) {
	for _, c := range []struct {
		format, text string
		want         []Request
	}{
		{Mooncake, `{"timestamp": 2000, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}` + "\n\n" +
			`{"timestamp": 500, "input_length": 7, "output_length": 0, "hash_ids": [2], "more": 1}`,
			[]Request{{0, 7, 0, []int64{2}, 0}, {1.5, 600, 5, []int64{0, 1}, 0}}},
		{Bailian, `{"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.25, "input_length": 33, "output_length": 5, "type": "text", "turn": 1, "hash_ids": [1089, 1090, 1091]}` + "\n" +
			`{"chat_id": 160, "parent_chat_id": 159, "timestamp": 63, "input_length": 33, "output_length": 5, "type": "text", "turn": 2, "hash_ids": [1089, 1090]}`,
			[]Request{{0, 33, 5, []int64{1089, 1090, 1091}, 0}, {1.75, 33, 5, []int64{1089, 1090}, 0}}},
		{Azure, "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:59:59.7500000,374,44\r\n2023-11-16 19:00:01.0000000,396,109\r\n",
			[]Request{{0, 374, 44, nil, 0}, {1.25, 396, 109, nil, 0}}},
		{Azure, "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.5+00:00,1,2\n2024-05-10 00:00:00+00:00,3,4",
			[]Request{{0, 3, 4, nil, 0}, {.5, 1, 2, nil, 0}}},
		{BurstGPT, "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,Conversation log\n",
			[]Request{{0, 472, 18, nil, 0}, {40, 1087, 230, nil, 0}}},
		{Vidur, ",arrived_at,num_prefill_tokens,num_decode_tokens,pd_ratio\n0,0.25,374.0,44.0,8.5\n1,4.5,396,109,3.6\n",
			[]Request{{0, 374, 44, nil, 0}, {4.25, 396, 109, nil, 0}}},
	} {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		z.Write([]byte(c.text))
		z.Close()
		for _, text := range []string{c.text, packed.String()} {
			got, err := ReadTrace(strings.NewReader(text), 0)
			if err != nil {
				t.Fatalf("%s: %v", c.format, err)
			}
			if got.Format != c.format || got.BlockTokens != map[string]int{Mooncake: 512, Bailian: 16}[c.format] {
				t.Errorf("format %s of blocks of %d, want %s", got.Format, got.BlockTokens, c.format)
			}
			if d := cmp.Diff(c.want, got.Requests); d != "" {
				t.Errorf("%s: %s", c.format, d)
			}
		}
	}
}

func TestReadTraceRefuses(t *testing.T) {
	const azure, vidur = "TIMESTAMP,ContextTokens,GeneratedTokens\n", "arrived_at,num_prefill_tokens,num_decode_tokens\n"
	for _, c := range []struct{ text, want string }{
		{"", "no requests"},
		{azure, "line 1: no requests"},
		{"hello\n", `line 1: "hello" is the head of no known trace`},
		{`{"timestamp": 0, "input_length": 1, "output_length": 1}` + "\n" + `{"timestamp": 0, "input_length": 1`, "line 2: "},
		{`{"timestamp": 0, "input_length": 1}`, "line 1: output_length: missing"},
		{`{"input_length": 1, "output_length": 1}`, "line 1: timestamp: missing"},
		{`{"timestamp": 0, "input_length": -1, "output_length": 1}`, "line 1: input_length: -1"},
		{`{"timestamp": 0, "input_length": 1.5, "output_length": 1}`, "line 1: "},
		{`{"timestamp": 1e300, "input_length": 1, "output_length": 1}`, "line 1: timestamp"},
		{azure + "\n2023-11-16 18:59:59,1,2\n2023-11-16,1,2\n", `line 4: TIMESTAMP: "2023-11-16"`},
		{azure + "2023-11-16 18:59:59,1\n", "line 2: 2 columns, 3 are needed"},
		{azure + "2023-11-16 18:59:59,1,x\n", `line 2: GeneratedTokens: "x"`},
		{vidur + "0,1,2\nNaN,1,2\n", `line 3: arrived_at: "NaN"`},
		{vidur + "0,1e10,2\n", `line 2: num_prefill_tokens: "1e10"`},
		{vidur + "0,1," + strings.Repeat("1", maxTraceLine) + "\n", "line 2: longer than"},
		{"\x1f\x8bgarbage", "gzip"},
		{`{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2, 3]}`, "line 1: hash_ids: 3 for an input of 600 tokens, which has 2 blocks of 512"},
		{`{"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": [1]}` + "\n" + `{"timestamp": 0, "input_length": 1100, "output_length": 1, "hash_ids": [1]}`, "line 2: hash_ids: 1 for"},
		{`{"chat_id": 1, "timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}`, "line 1: hash_ids: 2 for an input of 600 tokens, which has 38 blocks of 16"},
	} {
		got, err := ReadTrace(strings.NewReader(c.text), 0)
		if err == nil || !strings.Contains(err.Error(), c.want) || got.Requests != nil {
			t.Errorf("%.60q: %d requests, error %v, want %q", c.text, len(got.Requests), err, c.want)
		}
	}
	if _, err := ReadTraceFile(filepath.Join(t.TempDir(), "absent"), 0); err == nil {
		t.Error("no error without the file")
	}
	const line = `{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2, 3]}`
	if got, err := ReadTrace(strings.NewReader(line), 256); err != nil || got.BlockTokens != 256 {
		t.Errorf("three blocks of 256: %v", err)
	}
	for _, n := range []int{-1, 1<<20 + 1} {
		if _, err := ReadTrace(strings.NewReader(line), n); err == nil {
			t.Errorf("blocks of %d tokens accepted", n)
		}
	}
}

func TestReadTraceMeasured(t *testing.T) {
	dir, err := DataDir()
	if err != nil {
		t.Skip(err)
	}
	for _, c := range []struct {
		file, format      string
		requests, seconds int
		input, output     int // mean, whole
	}{
		{"azure_llm_2023_conv.csv.gz", Azure, 19366, 3501, 1154, 211},
		{"mooncake_conversation_trace.jsonl.gz", Mooncake, 12031, 3536, 12035, 342},
	} {
		trace, err := ReadTraceFile(filepath.Join(dir, c.file), 0)
		if err != nil {
			t.Fatal(err)
		}
		q, format := trace.Requests, trace.Format
		in, out := 0, 0
		for i, r := range q {
			in, out = in+r.Input, out+r.Output
			if i > 0 && r.Arrival < q[i-1].Arrival {
				t.Fatalf("%s: request %d arrives before the one before it", c.file, i)
			}
			if format == Mooncake && len(r.Blocks) != (r.Input+511)/512 {
				t.Fatalf("%s: request %d has %d blocks for %d tokens", c.file, i, len(r.Blocks), r.Input)
			}
		}
		if n := len(q); format != c.format || n != c.requests || int(q[n-1].Arrival) != c.seconds || in/n != c.input || out/n != c.output {
			t.Errorf("%s: %s, %d requests in %v s, means %d and %d", c.file, format, n, q[n-1].Arrival, in/n, out/n)
		}
	}
}

// FuzzReadTrace: no input makes it panic; what it accepts is in order and in range.
func FuzzReadTrace(f *testing.F) {
	f.Add([]byte(`{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}`))
	f.Add([]byte("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:59:59.75,374,44\n"))
	f.Add([]byte("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"))
	f.Add([]byte("arrived_at,num_prefill_tokens,num_decode_tokens\n0.25,374.0,44\n"))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, in []byte) {
		trace, err := ReadTrace(bytes.NewReader(in), 0)
		q := trace.Requests
		if err != nil {
			if q != nil || trace.Format != "" {
				t.Fatal("an error and an answer")
			}
			return
		}
		last := 0.0
		for _, r := range q {
			if !(r.Arrival >= last) || r.Input < 0 || r.Output < 0 || r.Input > maxTraceTokens || r.Output > maxTraceTokens {
				t.Fatalf("%+v after %v", r, last)
			}
			last = r.Arrival
		}
	})
}
