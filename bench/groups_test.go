package bench

import (
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// TestGroupsByWhatIsReached: where a node's GPUs cannot be packed to its bound, groups
// are shared by nodes anew; by the bounds alone the mean gap is 1.29%.
func TestGroupsByWhatIsReached(t *testing.T) {
	loads := workload.Zipf(58, 256, 1.2, 1e6, 1)
	r, err := eplb.Plan(t.Context(), eplb.Problem{Loads: loads, Replicas: 288, Groups: 8, Topology: placement.PrefillUnit()}, eplb.Options{Locality: eplb.ByGroup})
	if err != nil {
		t.Fatal(err)
	}
	gap := 0.0
	for l, y := range r.Layers {
		gap += 100 * (y.Imbalance/y.LowerBound - 1) / 58
		homes := [4]int{}
		for _, n := range r.Locality.Home[l] {
			homes[n]++
		}
		if homes != [4]int{2, 2, 2, 2} {
			t.Errorf("layer %d: %v groups a node", l, homes)
		}
	}
	if gap > 1.06 {
		t.Errorf("the mean gap to the bound is %.2f%%", gap)
	}
}
