package eplb

import (
	"context"
	"fmt"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
)

func BenchmarkDeepSeek(b *testing.B) {
	const layers, experts, replicas, groups = 58, 256, 288, 8
	for _, s := range []float64{0.8, 1.2} {
		loads := workload.Zipf(layers, experts, s, 1e6, 1)
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
