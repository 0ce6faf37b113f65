package simulate

import "math"

// histogram counts durations in nanoseconds in cells 1/32 of an octave wide: its
// quantiles are right to 2%.
type histogram struct {
	cells [64 * 32]int64
	count int64
}

func (h *histogram) add(ns int64) {
	h.cells[cell(ns)]++
	h.count++
}

func cell(ns int64) int {
	if ns < 32 {
		return int(max(ns, 0))
	}
	f, e := math.Frexp(float64(ns)) // f in [1/2, 1)
	return min(32*(e-5)+int(float64(f*64))-32, 64*32-1)
}

// quantile is the time below which the share q of them is, in seconds: those of a
// cell are taken to lie evenly in it. 0 = nothing was counted.
func (h *histogram) quantile(q float64) float64 {
	want := min(int64(q*float64(h.count)), h.count-1) // the time that so many are below
	for i, n := range h.cells {
		if want >= n {
			want -= n
			continue
		}
		if i < 32 {
			return float64(i) * 1e-9
		}
		part := (float64(want) + .5) / float64(n)
		return math.Ldexp(1+(float64(i%32)+part)/32, i/32+4) * 1e-9
	}
	return 0
}
