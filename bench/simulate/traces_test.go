package simulate

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
)

// TestTraces runs a little of every kind of trace that workload reads: generated
// ones, and at length recorded ones where the data is at hand. Each run checks that
// nothing is lost.
func TestTraces(t *testing.T) {
	type trace struct {
		name string
		from func() Source
	}
	read := func(t0 workload.Trace, err error) trace {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		kept := t0.Requests[:0]
		for _, q := range t0.Requests {
			if q.Input > 0 && q.Output > 0 {
				kept = append(kept, q)
			}
		}
		return trace{t0.Format, func() Source { return workload.NewReplay(kept, 60) }}
	}
	lines := func(head, line string) string {
		b := &strings.Builder{}
		b.WriteString(head)
		for i := range 300 {
			fmt.Fprintf(b, line+"\n", i, 100+i*37%4000, 1+i*11%900)
		}
		return b.String()
	}
	var traces []trace
	for _, text := range []string{
		lines("", `{"timestamp": %d, "input_length": %d, "output_length": %d}`),
		lines("TIMESTAMP,ContextTokens,GeneratedTokens\n", "2023-11-16 18:17:03.%03d,%d,%d"),
		lines("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n", "%d,GPT-4,%d,%d,0,API log"),
		lines("arrived_at,num_prefill_tokens,num_decode_tokens\n", "%d,%d,%d"),
	} {
		traces = append(traces, read(workload.ReadTrace(strings.NewReader(text), 0)))
	}
	if dir, err := workload.DataDir(); err != nil || !long.Tests() {
		t.Log("no recorded traces: ", err)
	} else {
		for _, name := range []string{"mooncake_conversation_trace.jsonl.gz", "azure_llm_2023_conv.csv.gz"} {
			traces = append(traces, read(workload.ReadTraceFile(filepath.Join(dir, name), 0)))
		}
		day, err := workload.ReadServeGenDay(dir)
		if err != nil {
			t.Fatal(err)
		}
		traces = append(traces, trace{"servegen", func() Source { return day.Requests(60, 20, 1) }})
	}
	base := brief(Policy{}, 10)
	base.MaxTokens = 16384 // of prompts as long as they were
	base.setTopics(base.Seconds)
	for _, p := range []Policy{ours(), none()} {
		for _, x := range traces {
			c := base
			c.Policy = p
			r, err := Run(c, x.from())
			if err != nil {
				t.Errorf("%s, %v: %v", x.name, p, err)
				continue
			}
			if r.Requests < 300 || r.TokensPerSecond <= 0 {
				t.Errorf("%s, %v: %d requests, %v tokens/s", x.name, p, r.Requests, r.TokensPerSecond)
			}
		}
	}
}

// TestReplayHits: what a store finds of a trace played many times side by side is
// what it finds of the trace played once, in order of time.
func TestReplayHits(t *testing.T) {
	talks := workload.Conversations(3000, 1)
	for i := range talks {
		talks[i].Arrival *= .2 // five a second
	}
	seen := map[int64]bool{}
	found, all := 0, 0
	for _, q := range talks {
		n := 0
		for n < len(q.Blocks) && seen[q.Blocks[n]] {
			n++
		}
		for _, b := range q.Blocks {
			seen[b] = true
		}
		found, all = found+min(512*n, q.Input-1), all+q.Input
	}
	want := float64(found) / float64(all)
	c := brief(none(), 40)
	c.PrefillOnly, c.BlockTokens, c.StoreTokens = true, 512, 1<<29
	r, err := Run(c, workload.NewReplay(talks, 60))
	if err != nil {
		t.Fatal(err)
	}
	got := float64(r.HitTokens) / float64(r.InputTokens)
	t.Logf("%.3f of the prompts' tokens are found, %.3f of the trace played once", got, want)
	if want < .3 || math.Abs(got-want) > .05 {
		t.Errorf("%.3f of the prompts' tokens are found, %.3f of the trace played once", got, want)
	}
}

// TestOddTraces: traces without a span end, over-long requests are counted and left
// out, and nothing but such is an error.
func TestOddTraces(t *testing.T) {
	for name, requests := range map[string][]workload.Request{
		"one request":       {{Input: 100, Output: 3}},
		"all at one time":   {{Input: 100, Output: 3}, {Input: 200, Output: 4}, {Input: 300, Output: 5}},
		"one of three long": {{Input: 100, Output: 3}, {Arrival: 1, Input: 1 << 22, Output: 4}, {Arrival: 2, Input: 300, Output: 5}},
	} {
		r, err := Run(brief(none(), 10), workload.NewReplay(requests, 20))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if all := r.Requests + r.LeftOut; all < 190 || all > 210 || (r.LeftOut > 50) != (name == "one of three long") {
			t.Errorf("%s: %d requests and %d left out in 10 s at 20 a second", name, r.Requests, r.LeftOut)
		}
	}
	if _, err := Run(brief(none(), 10), &flood{workload.NewReplay([]workload.Request{{Input: 1 << 22, Output: 1}}, 1)}); err == nil {
		t.Error("nothing but over-long requests was accepted")
	}
}
