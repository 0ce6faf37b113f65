package bench

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
	pre "github.com/moelb/moelb/prefill"
)

// withLong puts so many prompts of 128k tokens, or up to a million, evenly among
// others.
func withLong(requests []workload.Request, n, most int) []workload.Request {
	out := slices.Clone(requests)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for k := range n {
		out[(2*k+1)*len(out)/(2*n)].Input = 128_000 + r.IntN(most-127_999)
	}
	return out
}

// pareto draws lengths of a heavy tail, up to a quarter million tokens.
func pareto(n int, index float64, seed uint64) []workload.Request {
	r := rand.New(rand.NewPCG(seed, 31))
	out := make([]workload.Request, n)
	for i := range out {
		out[i] = workload.Request{Arrival: float64(i) + r.Float64(), Input: min(250_000, int(300*math.Pow(1-r.Float64(), -1/index))), Output: 100}
	}
	return out
}

type namedTrace struct {
	name     string
	requests []workload.Request
}

// waitTraces are twelve loads: generated, measured where data is at hand, and mixed.
func waitTraces(tb testing.TB) []namedTrace {
	chat := workload.Chat(4000, 1)
	alike := workload.Chat(4000, 3)
	for i := range alike {
		alike[i].Input = 3000
	}
	traces := []namedTrace{
		{"generated chat", chat},
		{"chat with 12 of 128k", withLong(workload.Chat(12000, 2), 12, 128_000)},
		{"chat with 100 of 128k", withLong(workload.Chat(12000, 2), 100, 128_000)},
		{"chat with 12 of 128k to 1M", withLong(workload.Chat(12000, 2), 12, 1_000_000)},
		{"generated long talks", workload.Conversations(4000, 1)},
		{"generated reasoning", workload.Reason(4000, 1)},
		{"generated code", workload.Code(4000, 1)},
		{"all alike", alike},
		{"Pareto tail of index 1.2", pareto(6000, 1.2, 1)},
	}
	dir, err := workload.DataDir()
	if err != nil {
		tb.Log(err)
		return traces
	}
	for _, file := range [][2]string{{"Azure conversations", "azure_llm_2023_conv.csv.gz"}, {"Mooncake conversations", "mooncake_conversation_trace.jsonl.gz"}} {
		trace, err := workload.ReadTraceFile(filepath.Join(dir, file[1]), 0)
		if err != nil {
			tb.Fatal(err)
		}
		requests := slices.DeleteFunc(trace.Requests, func(q workload.Request) bool { return q.Output == 0 || q.Input == 0 })
		traces = append(traces, namedTrace{file[0], requests[:min(len(requests), 8000)]})
	}
	r1, err := workload.ServeGen(dir, 8000, 1)
	if err != nil {
		tb.Fatal(err)
	}
	return append(traces, namedTrace{"DeepSeek-R1's clients", r1})
}

// waits are the times to the first token: the median of the shortest tenth, and the
// median, 90% and 99% of all.
type waits [4]float64

func waitsOf(requests []workload.Request, ttft []float64) waits {
	order := make([]int, len(requests))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(requests[i].Input, requests[j].Input) })
	var short []float64
	for _, i := range order[:len(order)/10] {
		short = append(short, ttft[i])
	}
	return waits{lockstep.Quantile(short, .5), lockstep.Quantile(ttft, .5), lockstep.Quantile(ttft, .9), lockstep.Quantile(ttft, .99)}
}

func (w waits) String() string {
	return fmt.Sprintf("%.2f / %.2f / %.2f / %.2f", w[0], w[1], w[2], w[3])
}

// TestPrefillWaits prints docs' table of first tokens: ours, and for each figure the
// best of TensorRT-LLM's placement and the least tokens, without a limit on chunks and with
// at most 2,048 or 512 tokens of a prompt a step. In all but four of 36 cells
// none of ours is above the best of all by a tenth; without measured data fewer are
// looked at.
func TestPrefillWaits(t *testing.T) {
	long.Only(t)
	good, cells := 0, 0
	for _, trace := range waitTraces(t) {
		for _, load := range []float64{.3, .6, .85} {
			u := lockstep.Prefill{Ranks: 32, MaxTokens: 16384, Cost: pre.DeepSeekV3H800(), Requests: trace.requests}
			u = u.Scaled(load)
			ours := waitsOf(u.Requests, form(t, &u).TTFT)
			best := waits{math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1)}
			for _, p := range baseline.PrefillPolicies() {
				if p.Name != "trtllm-adp" && p.Name != "least-tokens" {
					continue
				}
				for _, u.Chunk = range []int64{0, 2048, 512} {
					w := waitsOf(u.Requests, route(t, &u, p.New(u.Ranks), 0).TTFT)
					for i := range best {
						best[i] = min(best[i], w[i])
					}
				}
			}
			cells++
			ok := true
			for i := 1; i < 4; i++ {
				ok = ok && ours[i] <= 1.1*best[i]
			}
			if ok {
				good++
			}
			t.Logf("| %s | %.0f%% | %v | %v |", trace.name, 100*load, ours, best)
		}
	}
	t.Logf("%d of %d cells within a tenth of the best of each", good, cells)
	if cells-good > 4 {
		t.Errorf("%d of %d cells within a tenth of the best of each", good, cells)
	}
}
