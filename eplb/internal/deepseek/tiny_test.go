package deepseek_test

import (
	"context"
	"math"
	"testing"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// planned is the published algorithm's figures of one layer.
func planned(t *testing.T, loads []float64, slots, gpus int) eplb.Layer {
	p := eplb.Problem{Loads: placement.Loads{loads}, Replicas: slots, Topology: placement.Topology{GPUs: gpus}}
	r, err := eplb.Plan(context.Background(), p, eplb.Options{Policy: eplb.DeepSeek})
	if err != nil {
		t.Fatal(err)
	}
	return r.Layers[0]
}

// TestTinyLoads demands figures of loads so small that their mean over GPUs is 0, or
// has few digits.
func TestTinyLoads(t *testing.T) {
	for _, x := range []float64{5e-324, 1.5e-323, 1e-322, 1e-310} {
		loads := make([]float64, 8)
		loads[3] = x
		if y := planned(t, loads, 16, 4); !(y.Imbalance >= 1 && y.LowerBound >= 1 && y.LowerBound <= y.Imbalance) {
			t.Errorf("%v: imbalance %v, bound %v", x, y.Imbalance, y.LowerBound)
		}
	}
}

// TestReplicaBound demands the bound that is known: 3 replicas of the hot expert carry a
// third of it each.
func TestReplicaBound(t *testing.T) {
	y := planned(t, []float64{1000, 1, 1, 1, 1, 1, 1, 1}, 10, 5)
	if want := 1000. / 3 / (1007. / 5); math.Abs(y.LowerBound-want) > 1e-9 {
		t.Errorf("%v, not %v", y.LowerBound, want)
	}
}
