package eplb

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/placement"
)

// zipfLoads is layers of shuffled Zipf loads times lognormal noise, about a
// million tokens a layer.
func zipfLoads(s float64, layers, experts int, seed uint64) placement.Loads {
	r := rand.New(rand.NewPCG(seed, 0))
	w := placement.NewLoads(layers, experts)
	for _, row := range w {
		sum := 0.0
		for e := range row {
			row[e] = math.Exp(0.3*r.NormFloat64()) / math.Pow(float64(e+1), s)
			sum += row[e]
		}
		for e := range row {
			row[e] = max(1, math.Round(row[e]*(1e6/sum)))
		}
		r.Shuffle(experts, func(i, j int) { row[i], row[j] = row[j], row[i] })
	}
	return w
}

func BenchmarkDeepSeek(b *testing.B) {
	const layers, experts, replicas, groups = 58, 256, 288, 8
	for _, s := range []float64{0.8, 1.2} {
		loads := zipfLoads(s, layers, experts, 1)
		for _, t := range []placement.Topology{placement.PrefillUnit(), placement.DecodeUnit()} {
			b.Run(fmt.Sprintf("layers=%d/experts=%d/gpus=%d/zipf=%v", layers, experts, t.GPUs, s), func(b *testing.B) {
				p := Problem{Loads: loads, Replicas: replicas, Groups: groups, Topology: t}
				b.ReportAllocs()
				mean := 0.0
				for b.Loop() {
					r, err := Plan(context.Background(), p, Options{Policy: DeepSeek, Workers: 1})
					if err != nil {
						b.Fatal(err)
					}
					mean = 0
					for _, l := range r.Layers {
						mean += l.Imbalance / layers
					}
				}
				b.ReportMetric(mean, "max/mean")
			})
		}
	}
}
