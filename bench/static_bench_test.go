package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/split"
	"github.com/moelb/moelb/placement"
)

// history is windows to make weights from and windows that come after them.
type history struct {
	name         string
	topology     placement.Topology
	replicas     int
	past, future []placement.Loads
}

// histories are the measured windows, four and the next four of every domain or
// of two domains in turn, and draws of batches from Zipf loads.
func histories(tb testing.TB) []history {
	var out []history
	if dir, err := workload.DataDir(); err == nil {
		domains, err := workload.ESFT(dir)
		if err != nil {
			tb.Fatal(err)
		}
		unit := placement.Topology{GPUs: 8}
		for i, d := range domains {
			out = append(out, history{"esft=" + d.Name, unit, 72, d.Windows[:4], d.Windows[4:8]})
			e := domains[(i+1)%len(domains)]
			turns := func(k int) []placement.Loads {
				return []placement.Loads{d.Windows[k], e.Windows[k], d.Windows[k+1], e.Windows[k+1]}
			}
			out = append(out, history{"esft=" + d.Name + "+" + e.Name, unit, 72, turns(0), turns(2)})
		}
	} else {
		tb.Log(err)
	}
	for _, gpus := range []int{32, 144} {
		loads := workload.Zipf(58, 256, .8, 1e6, 1)
		rng := rand.New(rand.NewPCG(1, uint64(gpus)))
		draw := func() []placement.Loads {
			windows := make([]placement.Loads, 4)
			for k := range windows {
				windows[k] = placement.NewLoads(58, 256)
				for l, row := range loads {
					for e, x := range row {
						n := x / 1e6 * 1024 * float64(gpus)
						windows[k][l][e] = math.Max(0, math.Round(n+math.Sqrt(n)*rng.NormFloat64()))
					}
				}
			}
			return windows
		}
		out = append(out, history{fmt.Sprintf("zipf=0.8/gpus=%d", gpus), placement.Topology{GPUs: gpus}, 288, draw(), draw()})
	}
	return out
}

// BenchmarkStaticWeights reports the mean imbalance of the windows that the
// weights were made from and of those after, under an even split, under the
// weights, and under the best split of every window, of a plan made for the sum
// of the past windows.
func BenchmarkStaticWeights(b *testing.B) {
	for _, h := range histories(b) {
		b.Run(h.name, func(b *testing.B) {
			sum := placement.NewLoads(len(h.past[0]), h.past[0].Experts())
			for _, w := range h.past {
				if err := sum.AddWindow(w); err != nil {
					b.Fatal(err)
				}
			}
			r, err := eplb.Plan(b.Context(), eplb.Problem{Loads: sum, Replicas: h.replicas, Topology: h.topology}, eplb.Options{})
			if err != nil {
				b.Fatal(err)
			}
			var weights [][]float64
			var layers []eplb.Layer
			b.ReportAllocs()
			for b.Loop() {
				if weights, layers, err = split.StaticWeights(&r.Placement, h.topology, h.past); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)/float64(len(layers)), "ms/layer")
			gap := 0.0
			for _, l := range layers {
				gap = max(gap, l.Imbalance/l.LowerBound-1)
			}
			b.ReportMetric(gap, "gap")
			for _, side := range []struct {
				name    string
				windows []placement.Loads
			}{{"past", h.past}, {"next", h.future}} {
				even, static, best := dispatches(b, &r.Placement, h.topology, weights, side.windows)
				b.ReportMetric(even, side.name+"-even")
				b.ReportMetric(static, side.name+"-static")
				b.ReportMetric(best, side.name+"-best")
			}
		})
	}
}

// dispatches is the mean imbalance over windows and layers under an even split,
// under weights, and under the best split of each window.
func dispatches(tb testing.TB, p *placement.Placement, t placement.Topology, weights [][]float64, windows []placement.Loads) (even, static, best float64) {
	s, err := split.New(p, t)
	if err != nil {
		tb.Fatal(err)
	}
	n := float64(len(windows) * len(weights))
	first := p.FirstSlots()
	counts, dst := make([]int64, p.Experts), make([]int64, p.Slots())
	for _, w := range windows {
		for _, x := range imbalances(tb, p, w) {
			even += x / n
		}
		for l, row := range p.PhysicalToLogical {
			load := make([]float64, p.GPUs)
			for g := range load {
				for i := first[g]; i < first[g+1]; i++ {
					if e := row[i]; e >= 0 {
						load[g] += weights[l][i] * w[l][e]
					}
				}
			}
			static += placement.Imbalance(load, t.Speed) / n
			for e, x := range w[l] {
				counts[e] = int64(x)
			}
			y, err := s.Split(dst, l, counts)
			if err != nil {
				tb.Fatal(err)
			}
			best += y.Imbalance / n
		}
	}
	return even, static, best
}
