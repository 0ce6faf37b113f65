package deepseek

import "testing"

// TestTinyLoads demands figures of loads so small that their mean over GPUs is 0, or
// has few digits.
func TestTinyLoads(t *testing.T) {
	for _, x := range []float64{5e-324, 1.5e-323, 1e-322, 1e-310} {
		loads := make([]float64, 8)
		loads[3] = x
		imbalance, bound := New(8, 16, 1, 1, 4).Plan(loads, make([]int, 16), make([]int, 16))
		if !(imbalance >= 1 && bound >= 1 && bound <= imbalance) {
			t.Errorf("%v: imbalance %v, bound %v", x, imbalance, bound)
		}
	}
}
