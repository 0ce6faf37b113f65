package bench

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/split"
	"github.com/moelb/moelb/placement"
)

// BenchmarkSplit splits one batch of one layer among the replicas of a plan, as
// engines do each step: 1,024 tokens a GPU drawn from the loads that the plan
// was made for. It reports the batch's max/mean GPU load after the exact split.
func BenchmarkSplit(b *testing.B) {
	for _, u := range []unit{prefill, decode} {
		for _, skew := range []float64{.8, 1.2} {
			for _, d := range []eplb.Dispatch{eplb.Even, eplb.Split} {
				b.Run(fmt.Sprintf("dispatch=%v/loads=zipf%v/gpus=%s", d, skew, u.name), func(b *testing.B) {
					l := loads{rows: workload.Zipf(8, 256, skew, 1e6, 1)}
					r, err := eplb.Plan(b.Context(), u.problem(l), eplb.Options{Dispatch: d, Locality: eplb.Free})
					if err != nil {
						b.Fatal(err)
					}
					s, err := split.New(&r.Placement, placement.Topology{})
					if err != nil {
						b.Fatal(err)
					}
					batch := make([][]int64, len(l.rows))
					for i, row := range l.rows {
						batch[i] = drawTokens(row, 1024*u.topology.GPUs)
					}
					quota := make([]int64, u.replicas)
					sum, n := 0.0, 0
					b.ReportAllocs()
					for b.Loop() {
						y, err := s.Split(quota, n%len(batch), batch[n%len(batch)])
						if err != nil {
							b.Fatal(err)
						}
						sum += y.Imbalance
						n++
					}
					b.ReportMetric(sum/float64(n), "max/mean")
				})
			}
		}
	}
}

// drawTokens routes n tokens at random, as the loads say.
func drawTokens(row []float64, n int) []int64 {
	rng := rand.New(rand.NewPCG(2, 0))
	total := 0.0
	for _, x := range row {
		total += x
	}
	counts := make([]int64, len(row))
	for range n {
		x := rng.Float64() * total
		e := 0
		for ; e < len(row)-1 && x >= row[e]; e++ {
			x -= row[e]
		}
		counts[e]++
	}
	return counts
}
