package workload

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestServeGenGaps compares the gaps' means and coefficients of variation with theory.
func TestServeGenGaps(t *testing.T) {
	for _, c := range []struct {
		dist      string
		shape, cv float64
	}{{"", 0, 1}, {"Gamma", .25, 2}, {"Gamma", 4, .5}, {"Weibull", 1, 1}, {"Weibull", .5, math.Sqrt(5)}, {"Weibull", 2, .5227}} {
		r := rand.New(rand.NewPCG(1, 2))
		const n = 200_000
		sum, squares := 0.0, 0.0
		for range n {
			x := serveGap(c.dist, c.shape, r)
			sum, squares = sum+x, squares+x*x
		}
		mean := sum / n
		cv := math.Sqrt(squares/n-mean*mean) / mean
		if math.Abs(mean-1) > .03 || math.Abs(cv/c.cv-1) > .04 {
			t.Errorf("%s of shape %v: mean %.3f, coefficient of variation %.3f, want 1 and %.3f", c.dist, c.shape, mean, cv, c.cv)
		}
	}
}

func TestServeGenDay(t *testing.T) {
	dir, err := DataDir()
	if err != nil {
		t.Skip(err)
	}
	s, err := ReadServeGenDay(dir)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, x := range s.Profile() {
		sum += x / 24
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("the profile's mean is %v", sum)
	}
	const perSecond, seconds = 50, 600
	g := s.Requests(perSecond, seconds, 1)
	n, last, input, output := 0, 0.0, 0, 0
	for {
		q, ok := g.Next()
		if !ok {
			break
		}
		if q.Arrival < last || q.Arrival > seconds {
			t.Fatalf("request %d at %v after %v", n, q.Arrival, last)
		}
		n, last, input, output = n+1, q.Arrival, input+q.Input, output+q.Output
	}
	if math.Abs(float64(n)/(perSecond*seconds)-1) > .05 {
		t.Errorf("%d requests, want about %d", n, perSecond*seconds)
	}
	t.Logf("%d requests, input mean %.0f, output mean %.0f", n, float64(input)/float64(n), float64(output)/float64(n))
}
