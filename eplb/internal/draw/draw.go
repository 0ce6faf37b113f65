// Package draw draws what the planner's tests run on: loads, and GPUs of unlike
// speed. The same source gives the same.
package draw

import (
	"math"
	"math/rand/v2"

	"github.com/moelb/moelb/placement"
)

// Zipf is layers of shuffled loads by Zipf's law of exponent s times lognormal
// noise, about a million tokens a layer.
func Zipf(s float64, layers, experts int, seed uint64) placement.Loads {
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

// Row is n loads of one of several kinds, ties among them.
func Row(r *rand.Rand, n int) []float64 {
	w := make([]float64, n)
	kind := r.IntN(5)
	for e := range w {
		switch kind {
		case 0:
			w[e] = float64(r.IntN(6))
		case 1:
			w[e] = r.Float64()
		case 2:
			w[e] = math.Round(100 / math.Pow(float64(e+1), 1.2))
		case 3:
			w[e] = math.Exp(2 * r.NormFloat64())
		case 4:
			w[e] = float64(1 + 20*r.IntN(2)*r.IntN(3))
		}
	}
	r.Shuffle(n, func(i, j int) { w[i], w[j] = w[j], w[i] })
	return w
}

// Speeds is nil = all alike, or a speed of each GPU, some of them 0 = out of
// service.
func Speeds(r *rand.Rand, gpus int) []float64 {
	if r.IntN(2) == 0 {
		return nil
	}
	v := make([]float64, gpus)
	for g := range v {
		v[g] = []float64{0, .5, 1, 1, .3, 1.7}[r.IntN(6)]
	}
	return v
}
