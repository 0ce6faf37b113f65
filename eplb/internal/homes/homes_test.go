package homes

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestManyGroups: many groups come to nodes as evenly as few do: dealt out in rounds
// the fullest node stands up to a fifth higher.
func TestManyGroups(t *testing.T) {
	const groups, nodes = 128, 4
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		w, all := make([]float64, groups), 0.0
		for g := range w {
			w[g] = math.Exp(rng.NormFloat64())
			all += w[g]
		}
		h := newHomes(groups, slices.Repeat([]float64{1}, nodes), make([]int, nodes))
		h.setLoads(w)
		value, _ := h.least(h.pigeonhole(), func(n int, _ bool) float64 { return h.share(n, 0) })
		if least := max(h.pigeonhole(), all/nodes); value > 1.01*least {
			t.Errorf("seed %d: the fullest node has %.2f, and %.2f is a bound", seed, value, least)
		}
		used := make([]int, nodes)
		for _, n := range h.best {
			used[n]++
		}
		if !slices.Equal(used, slices.Repeat([]int{groups / nodes}, nodes)) {
			t.Errorf("seed %d: nodes have %v groups", seed, used)
		}
	}
}
