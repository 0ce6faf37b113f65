package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// prefillLines runs a session and returns its replies.
func prefillLines(t *testing.T, lines ...string) []string {
	t.Helper()
	out := call(t, strings.Join(lines, "\n")+"\n", "prefill").want(t, exitDone).stdout
	replies := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(replies) != len(lines) {
		t.Fatalf("%d replies to %d lines:\n%s", len(replies), len(lines), out)
	}
	return replies
}

func TestPrefillSession(t *testing.T) {
	lines, want := []string{}, []string{}
	say := func(line, reply string) {
		lines, want = append(lines, line), append(want, reply)
	}
	const ok = `{"ok":true}`
	say(`{"op":"config","ranks":2,"max_tokens":2048,"cost":{"pair":9.994e-9,"token":1.48e-4,"step":0.02}}`, ok)
	say(`{"op":"add","id":"a","tokens":4096,"cached":1024}`, `{"id":"a","rank":0}`)
	say(`{"op":"add","id":"é\n","tokens":4096,"cached":[0,4000]}`, `{"id":"é\n","rank":1}`)
	say(`{"op":"stats"}`, `{"ranks":[{"requests":1,"tokens":3072,"attention":7865856,"kv":4096,"serving":true,"capacity":0,"over":0},{"requests":1,"tokens":96,"attention":388656,"kv":4096,"serving":true,"capacity":0,"over":0}],"queued":0,"imbalance":{"tokens":1.9393939393939394,"attention":1.9058318650454442}}`)
	say(`{"op":"done","id":"a"}`, ok)
	say(`{"op":"done","id":"é\n"}`, ok)
	say(`{"op":"enqueue","id":"b","tokens":3000,"cached":0}`, ok)
	say(`{"op":"enqueue","id":"c","tokens":500}`, ok)
	say(`{"op":"enqueue","id":"d","tokens":600,"cached":[100,0]}`, ok)
	say(`{"op":"enqueue","id":"e","tokens":700,"leader":"b","shared":512}`, ok)
	say(`{"op":"cached","id":"d","rank":1,"cached":550}`, ok)
	say(`{"op":"drain","rank":0}`, ok)
	say(`{"op":"step"}`, `{"chunks":[{"id":"b","rank":1,"tokens":486,"last":false,"half":1},{"id":"d","rank":1,"tokens":50,"last":true,"half":1},{"id":"c","rank":1,"tokens":500,"last":true,"half":0}]}`)
	say(`{"op":"restore","rank":0}`, ok)
	say(`{"op":"step"}`, `{"chunks":[{"id":"b","rank":1,"tokens":724,"last":false,"half":0}]}`)
	say(`{"op":"step"}`, `{"chunks":[{"id":"b","rank":1,"tokens":1790,"last":true,"half":0}]}`)
	say(`{"op":"step"}`, `{"chunks":[{"id":"e","rank":0,"tokens":188,"last":true,"half":0}]}`)
	say(`{"op":"step"}`, `{"chunks":[]}`)
	say(`{"op":"stats"}`, `{"ranks":[{"requests":0,"tokens":0,"attention":0,"kv":0,"serving":true,"capacity":0,"over":0},{"requests":0,"tokens":0,"attention":0,"kv":0,"serving":true,"capacity":0,"over":0}],"queued":0,"imbalance":{"tokens":1,"attention":1}}`)
	got := prefillLines(t, lines...)
	for i := range got {
		var g, w any
		if json.Unmarshal([]byte(got[i]), &g) != nil || json.Unmarshal([]byte(want[i]), &w) != nil || !cmp.Equal(g, w) {
			t.Errorf("%s\ngot  %s\nwant %s", lines[i], got[i], want[i])
		}
	}
}

// TestPrefillSessionHostile: each bad line is answered with an error that names
// what is wrong, and changes nothing.
func TestPrefillSessionHostile(t *testing.T) {
	good := []string{`{"op":"config","ranks":2,"max_kv":5000}`, `{"op":"enqueue","id":"q","tokens":100}`, `{"op":"add","id":"a","tokens":100}`}
	const stats = `{"op":"stats"}`
	before := prefillLines(t, append(good, stats)...)[3]
	for line, mention := range map[string]string{
		``: "ends here", `hello`: "not JSON", `[]`: "object", `{}`: "op", `{"op":7}`: "op", `{"op":"fly"}`: "fly",
		`{"op":"config","ranks":2}`:                                        "second",
		`{"op":"enqueue","id":"q","tokens":5}`:                             "q",
		`{"op":"add","id":"a","tokens":5}`:                                 "a",
		`{"op":"add","id":"b"}`:                                            "tokens",
		`{"op":"add","id":"b","tokens":5,"rank":2}`:                        "rank",
		`{"op":"add","id":"b","tokens":0}`:                                 "tokens",
		`{"op":"add","id":"b","tokens":-4}`:                                "tokens",
		`{"op":"add","id":"b","tokens":1.5}`:                               "tokens",
		`{"op":"add","id":"b","tokens":1e12}`:                              "tokens",
		`{"op":"add","id":"b","tokens":5,"cached":6}`:                      "cached",
		`{"op":"add","id":"b","tokens":5,"cached":-1}`:                     "cached",
		`{"op":"add","id":"b","tokens":5,"cached":[0]}`:                    "cached",
		`{"op":"add","id":"b","tokens":5,"cached":[0,6]}`:                  "cached",
		`{"op":"add","id":"b","tokens":5,"cached":[0,1,2]}`:                "cached",
		`{"op":"add","id":7,"tokens":5}`:                                   "id",
		`{"op":"add","id":"b","tokens":5,"tokens":6}`:                      "twice",
		`{"op":"enqueue","id":"b","tokens":5001}`:                          "tokens",
		`{"op":"enqueue","id":"b","tokens":9,"leader":"q","shared":10}`:    "shared",
		`{"op":"cached","id":"q","cached":[1,2]}`:                          "cached",
		`{"op":"cached","id":"q","cached":101}`:                            "cached",
		`{"op":"cached","id":"a","cached":1}`:                              "queue",
		`{"op":"cached","id":"q","rank":0,"cached":1}`:                     "rank",
		`{"op":"done","id":"zz"}`:                                          "zz",
		`{"op":"drain","rank":2}`:                                          "rank",
		`{"op":"drain","rank":-1}`:                                         "rank",
		`{"op":"restore"}`:                                                 "rank",
		`{"op":"stats"} {"op":"stats"}`:                                    "after its end",
		`{"op":"add","id":"` + strings.Repeat("x", 5000) + `","tokens":5}`: "id",
	} {
		replies := prefillLines(t, append(append([]string{}, good...), line, stats)...)
		var r struct{ Error string }
		if json.Unmarshal([]byte(replies[3]), &r) != nil || !strings.Contains(r.Error, mention) {
			t.Errorf("%.80s: %s", line, replies[3])
		}
		if replies[4] != before {
			t.Errorf("%.80s changed the state: %s", line, replies[4])
		}
	}
	for _, line := range []string{`{"op":"step"}`, `{"op":"config","ranks":0}`, `{"op":"config","ranks":1,"cost":{"pair":-1}}`, `{"op":"config","ranks":1,"cost":{"pairs":1}}`, `{"op":"config"}`, `{"op":"config","ranks":1,"max_kv":-1}`, `{"op":"config","ranks":1,"max_kv":1.5}`} {
		if r := prefillLines(t, line, `{"op":"config","ranks":1}`); !strings.HasPrefix(r[0], `{"error":`) || r[1] != `{"ok":true}` {
			t.Errorf("%s: %s, then %s", line, r[0], r[1])
		}
	}
	// nothing fits where all ranks are drained, and that is not an error
	r := prefillLines(t, `{"op":"config","ranks":1}`, `{"op":"drain","rank":0}`, `{"op":"add","id":"a","tokens":5}`, `{"op":"add","id":"a","tokens":5}`, `{"op":"done","id":"a"}`)
	if r[2] != `{"id":"a","rank":-1}` || r[3] != r[2] || !strings.HasPrefix(r[4], `{"error":`) {
		t.Errorf("all ranks drained: %q", r)
	}
}

// TestPrefillSessionDrains gives a session many prompts and follows its chunks.
func TestPrefillSessionDrains(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	lines := []string{`{"op":"config","ranks":8,"max_tokens":4096}`}
	left := map[string]int64{}
	for i := range 400 {
		n := 1 + r.Int64N(1+r.Int64N(20_000))
		left[fmt.Sprint("r", i)] = n
		lines = append(lines, fmt.Sprintf(`{"op":"enqueue","id":"r%d","tokens":%d,"cached":0}`, i, n))
	}
	for range 400 {
		lines = append(lines, `{"op":"step"}`)
	}
	for _, reply := range prefillLines(t, lines...)[401:] {
		tokens := map[int]int64{}
		for _, c := range decode[struct {
			Chunks []struct {
				ID     string
				Rank   int
				Tokens int64
				Last   bool
				Half   int
			}
		}](t, reply).Chunks {
			left[c.ID] -= c.Tokens
			tokens[c.Rank] += c.Tokens
			if c.Last != (left[c.ID] == 0) || tokens[c.Rank] > 4096 {
				t.Fatalf("%+v with %d left, %d on the rank", c, left[c.ID], tokens[c.Rank])
			}
			if c.Last {
				delete(left, c.ID)
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("%d prompts have not ended", len(left))
	}
}

func FuzzPrefillSession(f *testing.F) {
	f.Add("{\"op\":\"config\",\"ranks\":3,\"max_tokens\":100}\n{\"op\":\"enqueue\",\"id\":\"a\",\"tokens\":900,\"cached\":[1,2,3]}\n{\"op\":\"step\"}\n{\"op\":\"stats\"}")
	f.Add("{\"op\":\"config\",\"ranks\":1}\n{\"op\":\"add\",\"id\":\"\\u00e9\",\"tokens\":5}\n{\"op\":\"done\",\"id\":\"\\u00e9\"}\n{\"op\":\"drain\",\"rank\":0}")
	f.Add("{\"op\":\"config\",\"ranks\":2,\"max_kv\":9,\"patience\":-1,\"cost\":{\"prefix\":1e-6}}\n{\"op\":\"enqueue\",\"id\":\"a\",\"tokens\":8,\"leader\":\"b\",\"shared\":3}\n{\"op\":\"cached\",\"id\":\"a\",\"cached\":8}\n{\"op\":\"step\"}")
	f.Fuzz(func(t *testing.T, text string) {
		out := call(t, text, "prefill", "-").want(t, exitDone).stdout
		for line := range strings.Lines(out) {
			if !json.Valid([]byte(line)) {
				t.Fatalf("not JSON: %q", line)
			}
		}
	})
}
