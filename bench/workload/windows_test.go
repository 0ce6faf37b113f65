package workload

import (
	"math"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// alike is the mean over the layers of two windows' total variation and Pearson
// correlation.
func alike(a, b placement.Loads) (variation, correlation float64) {
	for l := range a {
		var sa, sb float64
		for e := range a[l] {
			sa += a[l][e]
			sb += b[l][e]
		}
		n := float64(len(a[l]))
		var tv, aa, bb, ab float64
		for e := range a[l] {
			x, y := a[l][e]/sa, b[l][e]/sb
			tv += math.Abs(x-y) / 2
			x, y = x-1/n, y-1/n
			aa, bb, ab = aa+x*x, bb+y*y, ab+x*y
		}
		variation += tv / float64(len(a))
		correlation += ab / math.Sqrt(aa*bb) / float64(len(a))
	}
	return variation, correlation
}

// TestDomainsDriftAsMeasured holds generated windows against the figures of
// measured ones: neighbours within a domain, and windows of two domains.
func TestDomainsDriftAsMeasured(t *testing.T) {
	m := placement.DeepSeekV2Lite()
	domains := Domains(m, 3, 8, 512, 1)
	for d, x := range domains {
		for w := 1; w < len(x.Windows); w++ {
			if tv, r := alike(x.Windows[w-1], x.Windows[w]); tv < .07 || tv > .14 || r < .87 || r > .98 {
				t.Errorf("%s, windows %d and %d: variation %.3f, correlation %.3f; want 0.07 to 0.14, 0.87 to 0.98", x.Name, w-1, w, tv, r)
			}
		}
		other := domains[(d+1)%len(domains)]
		if _, r := alike(x.Windows[0], other.Windows[0]); math.Abs(r) > .23 {
			t.Errorf("%s and %s: correlation %.3f, want 0.23 at most", x.Name, other.Name, r)
		}
		for _, w := range x.Windows {
			for l, row := range w {
				sum := 0.0
				for _, v := range row {
					sum += v
				}
				if sum != 512*float64(m.TopK) || slices.Min(row) < 0 || slices.Max(row) > 512 {
					t.Fatalf("%s, layer %d: %v tokens, %v at most to an expert", x.Name, l, sum, slices.Max(row))
				}
			}
		}
	}
}

func TestAlternate(t *testing.T) {
	w := func(x float64) placement.Loads { return placement.Loads{{x}} }
	got := Alternate([]Domain{{Windows: []placement.Loads{w(1), w(2), w(3)}}, {Windows: []placement.Loads{w(4), w(5)}}})
	if len(got) != 4 {
		t.Fatalf("%d windows, want 4", len(got))
	}
	for i, want := range []float64{1, 4, 2, 5} {
		if got[i][0][0] != want {
			t.Errorf("window %d: %v, want %v", i, got[i][0][0], want)
		}
	}
}
