package simulate

import (
	"fmt"
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
	if testing.Short() {
		t.Skip("short: a run takes long under the race detector")
	}
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
		return trace{t0.Format, func() Source { return NewReplay(kept, 60) }}
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
