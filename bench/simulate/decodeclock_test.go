package simulate

import (
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/cost"
)

// TestHalfLayer: whichever of the four ways through a layer is longest, its length is
// right and the busiest rank's stages before and after enter it exactly if that way
// goes through them: a step that grows by a little in either says so.
func TestHalfLayer(t *testing.T) {
	const d, k = 3, 4
	for _, x := range []struct {
		way           string
		p, q, m       []float64
		want          float64
		before, after float64 // how often p and q are in it
	}{
		{"all stages of one rank", []float64{5, 1}, []float64{6, 1}, []float64{2, 1}, 13, 1, 1},
		{"dispatch, experts and after", []float64{1, 1}, []float64{9, 1}, []float64{2, 1}, 14, 0, 1},
		{"before, experts and combine", []float64{1, 9}, []float64{1, 1}, []float64{1, 2}, 15, 1, 0},
		{"dispatch, experts and combine", []float64{1, 1}, []float64{1, 1}, []float64{1, 9}, 16, 0, 0},
	} {
		c := &decodeClock{unit: &cost.Unit{Overlap: cost.TwoBatch}, p: x.p, q: x.q, m: x.m, top: []float64{max(x.m[0], x.m[1])}}
		length, p, q := c.halfLayer(0, d, k, slices.Max(x.p), slices.Max(x.q), nil)
		if length != x.want || p != x.before || q != x.after {
			t.Errorf("%s: %v, with p %v times and q %v; want %v, %v, %v", x.way, length, p, q, x.want, x.before, x.after)
		}
		for _, stage := range []struct {
			s     []float64
			times float64
		}{{x.p, p}, {x.q, q}} {
			for g := range stage.s {
				stage.s[g] += .25
			}
			if grown, _, _ := c.halfLayer(0, d, k, slices.Max(x.p), slices.Max(x.q), nil); grown-length != .25*stage.times {
				t.Errorf("%s: a stage longer by .25 makes it %v longer, and is in it %v times", x.way, grown-length, stage.times)
			}
			for g := range stage.s {
				stage.s[g] -= .25
			}
		}
	}
}
