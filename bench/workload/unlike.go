package workload

import (
	"math"
	"math/rand/v2"
)

// UnlikeLoads draws n loads of one of several kinds, ties and zeros among them: what
// tests plan where any load must do.
func UnlikeLoads(r *rand.Rand, n int) []float64 {
	w := make([]float64, n)
	kind := r.IntN(5)
	for e := range w {
		switch kind {
		case 0:
			w[e] = float64(r.IntN(6))
		case 1:
			w[e] = r.Float64()
		case 2:
			w[e] = math.Round(100 * exp(-float64(1.2*log(float64(e+1)))))
		case 3:
			w[e] = exp(float64(2 * normal(r)))
		case 4:
			w[e] = float64(1 + 20*r.IntN(2)*r.IntN(3))
		}
	}
	r.Shuffle(n, func(i, j int) { w[i], w[j] = w[j], w[i] })
	return w
}

// UnlikeSpeeds draws nil, which is all GPUs alike, or a speed of each, some of them 0,
// out of service.
func UnlikeSpeeds(r *rand.Rand, gpus int) []float64 {
	if r.IntN(2) == 0 {
		return nil
	}
	v := make([]float64, gpus)
	for g := range v {
		v[g] = []float64{0, .5, 1, 1, .3, 1.7}[r.IntN(6)]
	}
	return v
}
