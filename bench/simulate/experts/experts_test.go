package experts

import "testing"

// TestBusiestDomain: the busiest domain's mean, not its busiest GPU; a domain that is
// not full counts as what it is, and a unit within one domain is even.
func TestBusiestDomain(t *testing.T) {
	for _, x := range []struct {
		row    []float64
		domain int
		want   float64
	}{
		{[]float64{3, 1, .5, .5, .25, .75}, 2, 2},
		{[]float64{1, 1, .5, .5, 1.5}, 2, 1.5},
		{[]float64{1, 1, 1, 1}, 2, 1},
		{[]float64{3, 1, 0, 0}, 4, 1},
		{[]float64{3, 1, 0, 0}, 8, 1},
	} {
		if got := busiestDomain(x.row, x.domain); got != x.want {
			t.Errorf("%v in domains of %d: %v, want %v", x.row, x.domain, got, x.want)
		}
	}
}
