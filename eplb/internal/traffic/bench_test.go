package traffic

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// BenchmarkRegroup plans a layer of the published prefill unit's shape for tokens
// of twelve topics; nodes/token is after it, of what it was before.
func BenchmarkRegroup(b *testing.B) {
	const experts, gpus, nodes, each, k, tokens = 256, 32, 4, 9, 8, 8192
	rng := rand.New(rand.NewPCG(1, 1))
	first, node, speed := []int{0}, []int{}, []float64{}
	for g := range gpus {
		first, node, speed = append(first, each*(g+1)), append(node, g*nodes/gpus), append(speed, 1)
	}
	y := unitOf(first, node, speed, nodes)
	t := &Tokens{K: k}
	w := make([]float64, experts)
	for range tokens {
		topic := min(rng.IntN(12), rng.IntN(12))
		for n := len(t.IDs); len(t.IDs) < n+k; {
			e := (topic*21 + int(rng.ExpFloat64()*12)) % experts
			if !slices.Contains(t.IDs[n:], uint16(e)) {
				t.IDs = append(t.IDs, uint16(e))
				w[e] += float64(gpus) / (tokens * k)
			}
		}
	}
	y.Experts, y.Load, y.Share, y.Tokens = experts, w, []float64{1}, t
	start := make([]int32, y.Slots())
	for i := range start {
		start[i] = int32(i % experts)
	}
	EvenOut(y, start, 1.0002, never)
	level := levels(y, start)[0]
	y.Even, y.Most = []float64{level * 1.004}, []float64{level * 1.02}
	y.MovePrice = 0
	slot := make([]int32, len(start))
	b.ReportAllocs()
	for b.Loop() {
		copy(slot, start)
		Regroup(y, slot, never)
	}
	visit := func(slot []int32) float64 { return NewVisits(nodes).Mean(t, newState(y, slot, 1, never).on) }
	b.ReportMetric(visit(slot), "nodes/token")
	b.ReportMetric(visit(start), "nodes/token-before")
	b.ReportMetric(levels(y, slot)[0], "max/mean")
}
