package workload

import (
	"math"
	"math/rand/v2"
)

// Traffic is the built-in workload: requests like those of the published day,
// with a prompt of 4,050 tokens and 1,120 generated on average, both lognormal.
type Traffic struct {
	// PerSecond is the rate of requests at a time.
	PerSecond func(second float64) float64
	Peak      float64 // the highest rate
	Seed      uint64
	// Spread of prompts' lengths: the deviation of their logarithm; 0 = 0.9.
	Spread float64

	r   *rand.Rand
	now float64
}

// Shape of the built-in traffic.
const (
	trafficInput, trafficInputSpread   = 4050, .9
	trafficOutput, trafficOutputSpread = 1120, .8
	trafficMost                        = 65536 // tokens, of either
)

// Steady is the built-in traffic at one rate.
func Steady(perSecond float64, seed uint64) *Traffic {
	return &Traffic{PerSecond: func(float64) float64 { return perSecond }, Peak: perSecond, Seed: seed}
}

// Next returns the next request of a Poisson process.
func (t *Traffic) Next() (Request, bool) {
	if t.r == nil {
		t.r = rand.New(rand.NewPCG(t.Seed, 17))
	}
	for {
		t.now -= log(1-t.r.Float64()) / t.Peak
		if float64(t.r.Float64()*t.Peak) < t.PerSecond(t.now) {
			break
		}
		if t.now > maxTraceSeconds {
			return Request{}, false
		}
	}
	spread := t.Spread
	if spread == 0 {
		spread = trafficInputSpread
	}
	draw := func(mean, spread float64) int {
		x := mean * exp(float64(spread*normal(t.r))-float64(spread*spread/2))
		return int(min(max(math.Round(x), 1), trafficMost))
	}
	return Request{Arrival: t.now, Input: draw(trafficInput, spread), Output: draw(trafficOutput, trafficOutputSpread)}, true
}
