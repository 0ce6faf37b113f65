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

// quantile is the middle of the cell that holds it, in seconds; 0 = nothing was
// counted.
func (h *histogram) quantile(q float64) float64 {
	want, sum := int64(q*float64(h.count)), int64(0)
	for i, n := range h.cells {
		if sum += n; n > 0 && sum > want || sum == h.count && n > 0 {
			if i < 32 {
				return float64(i) * 1e-9
			}
			low := math.Ldexp(1+float64(i%32)/32, i/32+4)
			return float64(low*(1+1.0/64)) * 1e-9
		}
	}
	return 0
}
