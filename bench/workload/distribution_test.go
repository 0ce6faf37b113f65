package workload

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// farthest is the largest distance between the distribution of a sample and that
// which it should have, times the root of its size: above 1.95 in one of a
// thousand samples of the right distribution (Kolmogorov and Smirnov).
func farthest(sample []float64, cdf func(float64) float64) float64 {
	sample = slices.Sorted(slices.Values(sample))
	d, n := 0.0, float64(len(sample))
	for i, x := range sample {
		p := cdf(x)
		d = max(d, float64(i+1)/n-p, p-float64(i)/n)
	}
	return d * math.Sqrt(n)
}

// The built-in traffic is what it says: a Poisson process of lognormal requests.
func TestTrafficDistributions(t *testing.T) {
	const perSecond, n = 40, 50_000
	traffic := Steady(perSecond, 3)
	var gaps, inputs, outputs []float64
	last := 0.0
	for range n {
		q, ok := traffic.Next()
		if !ok {
			t.Fatal("the traffic ends")
		}
		gaps = append(gaps, q.Arrival-last)
		last = q.Arrival
		inputs, outputs = append(inputs, float64(q.Input)), append(outputs, float64(q.Output))
	}
	lognormal := func(mean, spread float64) func(float64) float64 {
		d := distuv.LogNormal{Mu: math.Log(mean) - spread*spread/2, Sigma: spread}
		return func(x float64) float64 { // whole tokens, up to a most
			if x >= trafficMost {
				return 1
			}
			return d.CDF(x)
		}
	}
	for _, c := range []struct {
		what   string
		sample []float64
		cdf    func(float64) float64
	}{
		{"gaps", gaps, distuv.Exponential{Rate: perSecond}.CDF},
		{"inputs", inputs, lognormal(trafficInput, trafficInputSpread)},
		{"outputs", outputs, lognormal(trafficOutput, trafficOutputSpread)},
	} {
		if d := farthest(c.sample, c.cdf); d > 1.95 {
			t.Errorf("%s: %.2f off their distribution", c.what, d)
		}
	}
	// Gaps know nothing of each other, nor lengths of one another.
	if r := stat.Correlation(inputs, outputs, nil); math.Abs(r) > 4/math.Sqrt(n) {
		t.Errorf("prompts and outputs correlate by %.4f", r)
	}
}

// The normal draws that keep generated loads alike on every platform.
func TestNormal(t *testing.T) {
	z := make([]float64, 100_000)
	r := rand.New(rand.NewPCG(5, 5))
	for i := range z {
		z[i] = normal(r)
	}
	if d := farthest(z, distuv.UnitNormal.CDF); d > 1.95 {
		t.Errorf("%.2f off the normal distribution", d)
	}
	mean, variance := stat.MeanVariance(z, nil)
	if se := 1 / math.Sqrt(float64(len(z))); math.Abs(mean) > 4*se || math.Abs(variance-1) > 4*math.Sqrt2*se {
		t.Errorf("mean %.4f, variance %.4f", mean, variance)
	}
}
