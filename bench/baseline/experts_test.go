package baseline

import (
	"math"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
)

// TestExpertsByHand pins each policy's rules on a layer small enough to follow:
// loads 12 8 2 2 over six slots on two or three GPUs. Two spare copies go to the
// experts of load 12 and 8, so the replicas are 6 6 4 4 2 2.
func TestExpertsByHand(t *testing.T) {
	loads := placement.Loads{{12, 8, 2, 2}}
	for _, x := range []struct {
		plan func(placement.Loads, int, int) placement.Placement
		name string
		gpus int
		want []int
	}{
		{Snake, "snake", 3, []int{0, 3, 0, 2, 1, 1}},
		{Snake, "snake", 2, []int{0, 1, 2, 0, 1, 3}},
		{LPTHeap, "lpt-heap", 3, []int{0, 2, 0, 3, 1, 1}},
		{LPT, "lpt", 3, []int{0, 1, 0, 3, 1, 2}},
	} {
		got := x.plan(loads, 6, x.gpus).PhysicalToLogical[0]
		if !slices.Equal(got, x.want) {
			t.Errorf("%s on %d GPUs: %v, want %v", x.name, x.gpus, got, x.want)
		}
	}
	// Ties: of equal loads TensorRT-LLM copies the larger expert, the others
	// the smaller.
	even := placement.Loads{{1, 1}}
	heap, lpt := LPTHeap(even, 3, 3), LPT(even, 3, 3)
	if got := heap.LogicalCount()[0]; !slices.Equal(got, []int{1, 2}) {
		t.Errorf("lpt-heap: counts %v, want the second expert copied", got)
	}
	if got := lpt.LogicalCount()[0]; !slices.Equal(got, []int{2, 1}) {
		t.Errorf("lpt: counts %v, want the first expert copied", got)
	}
}

// TestExpertsReproduceWhatWasMeasured plans the loads of the published
// comparison, which are other draws of the same recipe, and expects the same
// mean imbalance.
func TestExpertsReproduceWhatWasMeasured(t *testing.T) {
	for _, x := range []struct {
		plan       func(placement.Loads, int, int) placement.Placement
		name       string
		s          float64
		gpus       int
		want, near float64
	}{
		{Snake, "snake", .8, 144, 1.620, .02},
		{Snake, "snake", 1.2, 144, 2.462, .03},
		{LPT, "lpt", .8, 32, 1.00343, .001},
		{LPT, "lpt", 1.2, 32, 1.02512, .01},
	} {
		loads := workload.Zipf(58, 256, x.s, 1e6, 1)
		p := x.plan(loads, 288, x.gpus)
		scores, err := p.ScoreLayers(loads, placement.Topology{})
		if err != nil {
			t.Fatal(err)
		}
		mean := 0.0
		for _, s := range scores {
			mean += s.Imbalance / float64(len(scores))
		}
		t.Logf("%s s=%v %d GPUs: %.5f, measured %.5f", x.name, x.s, x.gpus, mean, x.want)
		if math.Abs(mean/x.want-1) > x.near {
			t.Errorf("%s s=%v %d GPUs: %.4f, measured %.4f", x.name, x.s, x.gpus, mean, x.want)
		}
	}
}
