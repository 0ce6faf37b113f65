// Package workload stands in for the real generator until it is merged.
package workload

import (
	"math"
	"math/rand/v2"

	"github.com/moelb/moelb/placement"
)

// Experts returns skewed loads of m's shape.
func Experts(m placement.Model, seed uint64) placement.Loads {
	r := rand.New(rand.NewPCG(seed, 0))
	l := placement.NewLoads(m.Layers, m.Experts)
	for i := range l {
		for e, at := range r.Perm(m.Experts) {
			l[i][e] = math.Round(1e5 * math.Exp(0.3*r.NormFloat64()) / math.Pow(float64(at+1), 0.8))
		}
	}
	return l
}
