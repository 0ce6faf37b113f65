package workload

import (
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// TestDrift: neighbouring windows are alike, the first and the last are not, and
// no token is lost. The last window's loads are the same on every platform.
func TestDrift(t *testing.T) {
	m := placement.DeepSeekV2Lite()
	const windows, tokens = 12, 1 << 16
	d := Drift(m, windows, tokens, 1)
	if len(d) != windows {
		t.Fatalf("%d windows, want %d", len(d), windows)
	}
	for w, loads := range d {
		for l, row := range loads {
			sum := 0.0
			for _, v := range row {
				if v != float64(int64(v)) {
					t.Fatalf("window %d, layer %d: %v tokens", w, l, v)
				}
				sum += v
			}
			if sum != tokens*float64(m.TopK) || slices.Min(row) < 0 || slices.Max(row) > tokens {
				t.Fatalf("window %d, layer %d: %v tokens, %v at most to an expert", w, l, sum, slices.Max(row))
			}
		}
		if w == 0 {
			continue
		}
		tv, r := alike(d[w-1], loads)
		if goes := w > windows/3 && w <= 2*windows/3; goes && (tv < .08 || tv > .25) || !goes && (tv < .03 || tv > .07 || r < .97) {
			t.Errorf("windows %d and %d: variation %.3f, correlation %.3f", w-1, w, tv, r)
		}
	}
	if tv, r := alike(d[0], d[windows-1]); tv < .3 || r > .3 {
		t.Errorf("first and last window: variation %.3f, correlation %.3f", tv, r)
	}
	if got := d[windows-1][25][:6]; !slices.Equal(got, []float64{6287, 1913, 4516, 16280, 2203, 3349}) {
		t.Errorf("the last window starts with %v", got)
	}
	if again := Drift(m, windows, tokens, 1); !slices.Equal(again[windows-1][3], d[windows-1][3]) {
		t.Error("another run gives other loads")
	}
}
