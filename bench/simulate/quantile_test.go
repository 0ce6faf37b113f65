package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat"

	"github.com/moelb/moelb/bench/simulate/lockstep"
)

// The histogram's quantiles, and those of times that are all kept, against a
// library's.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 22))
	for _, n := range []int{1, 2, 3, 10, 999, 20_000} {
		times := make([]float64, n)
		var h histogram
		for i := range times {
			times[i] = math.Exp(2*r.NormFloat64() - 3)
			h.add(int64(1e9 * times[i]))
		}
		sorted := slices.Sorted(slices.Values(times))
		for _, q := range []float64{.10137, .50013, .90017, .990013} {
			want := stat.Quantile(q, stat.Empirical, sorted, nil)
			if got := lockstep.Quantile(times, q); got != want {
				t.Errorf("%d times, quantile %v: %v, want %v", n, q, got, want)
			}
			if got := h.quantile(q); math.Abs(got/want-1) > 1./60 {
				t.Errorf("%d times, quantile %v of the histogram: %v, want %v", n, q, got, want)
			}
		}
	}
}
