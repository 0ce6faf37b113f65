package workload

import (
	"math/rand/v2"

	"github.com/moelb/moelb/placement"
)

// How the loads of Drift wander: from window to window a load's logarithm takes
// a step of this spread, and keeps this much of how far it has come, so that it
// stays within about 0.32 of where it would be.
const (
	driftStep = 0.10
	driftKept = 0.95
)

// Drift returns the loads of traffic that changes while it is served, window by
// window, as skewed as Experts: every expert's load wanders, and in the middle
// third of the windows the traffic goes over from one kind of text to another,
// with other hot experts. Each of so many tokens in a window goes to m.TopK
// experts of each layer.
func Drift(m placement.Model, windows, tokens int, seed uint64) []placement.Loads {
	from, to := Experts(m, seed), Experts(m, seed+1<<32)
	wandered := placement.NewLoads(m.Layers, m.Experts)
	out := make([]placement.Loads, windows)
	for w := range out {
		over := min(max(float64(3*w-windows)/float64(windows), 0), 1) // the share of the second kind
		out[w] = placement.NewLoads(m.Layers, m.Experts)
		for l, row := range out[w] {
			r := rand.New(rand.NewPCG(seed+2<<32, uint64(w)<<32+uint64(l)))
			for e := range row {
				x := &wandered[l][e]
				if w > 0 {
					*x = float64(*x*driftKept) + float64(driftStep*normal(r))
				}
				row[e] = (float64(from[l][e]*(1-over)) + float64(to[l][e]*over)) * exp(*x)
			}
			limit(row, m.TopK)
			apportion(row, m.TopK*tokens)
		}
	}
	return out
}
