package deepseek

import (
	"math"
	"testing"
)

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

// TestReplicaBound demands the bound that is known: 3 replicas of the hot expert carry a
// third of it each.
func TestReplicaBound(t *testing.T) {
	loads := []float64{1000, 1, 1, 1, 1, 1, 1, 1}
	_, bound := New(8, 10, 1, 1, 5).Plan(loads, make([]int, 10), make([]int, 10))
	if want := 1000. / 3 / (1007. / 5); math.Abs(bound-want) > 1e-9 {
		t.Errorf("%v, not %v", bound, want)
	}
}
