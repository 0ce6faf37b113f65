package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/bench/workload"
	dec "github.com/moelb/moelb/decode"
)

// decodeLoad is a load of the published decode unit: 144 ranks.
type decodeLoad struct {
	name     string
	requests []workload.Request
	batch    int // requests a rank
	steps    int
	long     bool // outputs of thousands of tokens
}

// unitKV is what a request of the published decode unit holds on average, tokens.
const unitKV = 4989

// decodeLoads are the generated loads and, where the data is at hand, the
// measured ones.
func decodeLoads(tb testing.TB) []decodeLoad {
	loads := []decodeLoad{
		{"chat", workload.ScaleInputs(workload.Chat(20000, 1), unitKV), 88, 1200, false},
		{"reason", workload.Reason(20000, 1), 88, 4000, true},
		{"code", workload.ScaleInputs(workload.Code(20000, 1), unitKV), 88, 600, false},
	}
	dir, err := workload.DataDir()
	if err != nil {
		tb.Log(err)
		return loads
	}
	read := func(name string) []workload.Request {
		trace, err := workload.ReadTraceFile(filepath.Join(dir, name), 0)
		if err != nil {
			tb.Fatal(err)
		}
		return slices.DeleteFunc(trace.Requests, func(q workload.Request) bool { return q.Output == 0 })
	}
	azure, mooncake := read("azure_llm_2023_conv.csv.gz"), read("mooncake_conversation_trace.jsonl.gz")
	r1, err := workload.ServeGen(dir, 40000, 1)
	if err != nil {
		tb.Fatal(err)
	}
	return append(loads,
		decodeLoad{"azure-scaled", workload.ScaleInputs(azure, unitKV), 88, 1200, false},
		decodeLoad{"mooncake-scaled", workload.ScaleInputs(mooncake, unitKV), 88, 1200, false},
		decodeLoad{"azure", azure, 88, 1200, false},
		decodeLoad{"mooncake-33", mooncake, 33, 1200, false},
		decodeLoad{"r1", r1, 88, 6000, true})
}

func (l decodeLoad) unit() lockstep.Decode {
	return lockstep.Decode{Ranks: 144, Batch: l.batch, Capacity: 550_000, Cost: dec.DeepSeekV3H800(), Requests: l.requests, Steps: l.steps, Seed: 1}
}

func ours(tb testing.TB, cfg dec.Config) *dec.Balancer {
	cfg.Ranks, cfg.KVCapacity = 144, []int64{550_000}
	b, err := dec.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// BenchmarkDecode runs the unit on every load with every policy: waste in percent,
// and max/mean of KV use and of requests over the ranks, beside the time of a
// simulated step.
func BenchmarkDecode(b *testing.B) {
	for _, l := range decodeLoads(b) {
		for _, m := range []struct {
			name  string
			load  float64
			joint bool
		}{{"closed", 0, false}, {"closed-joint", 0, true}, {"open", 0.87, false}, {"open-joint", 0.87, true}} {
			run := func(name string, s func() dec.Scheduler) {
				b.Run(fmt.Sprintf("load=%s/loop=%s/policy=%s", l.name, m.name, name), func(b *testing.B) {
					var r lockstep.DecodeResult
					for b.Loop() {
						u := l.unit()
						u.Load, u.Joint, u.Hints = m.load, m.joint, name == "br-h"
						var err error
						if r, err = u.Run(s()); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(100*r.Waste, "waste%")
					b.ReportMetric(r.KV, "kv-max/mean")
					b.ReportMetric(r.Requests, "req-max/mean")
					b.ReportMetric(float64(r.Overruns), "overruns")
				})
			}
			run("ours", func() dec.Scheduler { return ours(b, dec.Config{}) })
			for _, p := range baseline.DecodePolicies() {
				run(p.Name, func() dec.Scheduler { return p.New(144, 550_000, 1) })
			}
		}
	}
}

// BenchmarkDecodeAdd places one request on a full unit, with its share of what
// else happens: one finishes, and as often as one in 220 has, all grow.
func BenchmarkDecodeAdd(b *testing.B) {
	for _, ranks := range []int{32, 144, 1024, 4096} {
		b.Run(fmt.Sprintf("ranks=%d", ranks), func(b *testing.B) {
			unit, err := dec.New(dec.Config{Ranks: ranks, KVCapacity: []int64{550_000}})
			if err != nil {
				b.Fatal(err)
			}
			lengths := workload.ScaleInputs(workload.Chat(1<<14, 2), unitKV)
			ids := make([]dec.ID, ranks*88)
			next, turns := 0, 0
			turn := func() {
				turns++
				if ids[next] != 0 {
					_ = unit.Done(ids[next])
				}
				ids[next] = dec.ID(turns)
				if _, err := unit.Add(dec.Request{ID: ids[next], KV: int64(lengths[next%len(lengths)].Input)}); err != nil {
					b.Fatal(err)
				}
				if next = (next + 40503) % len(ids); turns%(len(ids)/220) == 0 {
					unit.Step()
				}
			}
			for range 2 * len(ids) {
				turn()
			}
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
		})
	}
}

// BenchmarkDecodeTable prints the table of docs/requests.md, a load each: the waste of
// ours, and of the best that others run, on arrival and with a step's arrivals together;
// then that of several routers whose reports are two and ten steps old, where finishes
// are heard of at once and as late, beside what the finishes that nobody has heard of
// cost any rule.
func BenchmarkDecodeTable(b *testing.B) {
	for _, l := range append(decodeLoads(b), documents()) {
		for _, load := range []float64{0, 0.87} {
			b.Run(fmt.Sprintf("%s/load=%v", l.name, load), func(b *testing.B) {
				u := l.unit()
				u.Load = load // 0 = closed loop
				for _, joint := range []bool{false, true} {
					u.Joint = joint
					unit, theirs := "%-on-arrival", "br-0"
					if joint {
						unit, theirs = "%-jointly", "trtllm-adp"
					}
					b.ReportMetric(decodeRun(b, u, ours(b, dec.Config{})), unit)
					for _, p := range baseline.DecodePolicies() {
						if p.Name != theirs {
							continue
						}
						r, err := u.Run(p.New(u.Ranks, int64(u.Capacity), 1))
						if err != nil {
							b.Fatal(err)
						}
						b.ReportMetric(100*r.Waste, "%-"+theirs)
					}
				}
				if l.long {
					u.Hints = true
					r, err := u.Run(newForeknown(u.Ranks, u.Cost))
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(100*r.Waste, "%-jointly-foreknown")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
		if l.long || l.batch != 88 {
			continue
		}
		for _, n := range []int{2, 4, 16} {
			for _, delay := range []int{2, 10} {
				b.Run(fmt.Sprintf("%s/routers=%d/steps=%d", l.name, n, delay), func(b *testing.B) {
					for _, streamed := range []bool{true, false} {
						r := amongRouters(b, l, n, delay, streamed)
						unit := "%-late"
						if streamed {
							unit = "%-reports-late"
						}
						b.ReportMetric(100*r.Waste, unit)
						b.ReportMetric(100*r.Floor, unit+"-least")
					}
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}

// documents is a load of questions, half of them about long documents, most of those
// answered in a few tokens.
func documents() decodeLoad {
	r := rand.New(rand.NewPCG(1, 1))
	requests := make([]workload.Request, 5000)
	for i := range requests {
		input, output := 20*math.Exp(3.8*r.Float64()), 50+r.IntN(500)
		switch x := r.Float64(); {
		case x < 0.005:
			input, output = 1e5+9e4*r.Float64(), 5+r.IntN(40)
		case x < 0.25:
			input, output = 12e3*math.Exp(1.5*r.Float64()), 2+r.IntN(20)
		case x < 0.5:
			input, output = 12e3*math.Exp(1.2*r.Float64()), 30+r.IntN(350)
		case x < 0.62:
			input, output = 1000+8000*r.Float64(), 2+r.IntN(100)
		}
		requests[i] = workload.Request{Arrival: float64(i), Input: int(input), Output: output}
	}
	return decodeLoad{"documents", workload.ScaleInputs(requests, unitKV), 88, 1200, false}
}

// amongRouters runs a unit of several routers that hear of each other some steps late, and,
// unless their streams tell them, of their own requests' finishes.
func amongRouters(tb testing.TB, l decodeLoad, n, delay int, streamed bool) lockstep.DecodeResult {
	tb.Helper()
	u := l.unit()
	u.Reports, u.Counted, u.Delay, u.Streamed = true, true, delay, streamed
	var routers []dec.Scheduler
	for k := range n {
		routers = append(routers, ours(tb, dec.Config{Routers: n, Router: k}))
	}
	r, err := u.Run(routers...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}
