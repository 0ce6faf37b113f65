package eplb

import (
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/eplb/internal/divide"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/placement"
)

// Windows that are split batch by batch, groups at home, are planned as windows: over
// many problems that is better than to plan their sum, by 9%.
func TestSplitOfWindowsByGroup(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	windows, sum := 0.0, 0.0
	const problems = 30
	for range problems {
		p := Problem{Replicas: 40, Groups: 8, Topology: placement.Topology{GPUs: 8, Nodes: 4}}
		o := Options{Dispatch: Split, Locality: ByGroup, OffNodeReplicas: rng.IntN(3) * 2}
		for range 4 {
			w := placement.NewLoads(1, 32)
			for e := range w[0] {
				x := rng.ExpFloat64()
				w[0][e] = x * x * 100
			}
			p.Windows = append(p.Windows, w)
		}
		r := mustPlan(t, p, o)
		whole := p
		if err := checkLoads(&whole, &o); err != nil {
			t.Fatal(err)
		}
		c := newPlanner(t.Context(), &whole, &o, nil).c
		slot := make([]int32, c.Unit.Slots)
		of := func(r Result) float64 {
			c.Unit.Read(r.Placement.PhysicalToLogical[0], slot)
			x, _ := divide.New(pack.New(c.Unit, 32)).Over(c, 0, slot)
			return x
		}
		if x := of(r); x != r.Layers[0].Imbalance {
			t.Fatalf("says %v, measured %v", r.Layers[0].Imbalance, x)
		}
		if f := r.Locality.FreeImbalance[0]; f > r.Layers[0].Imbalance {
			t.Errorf("without groups %v, with them %v", f, r.Layers[0].Imbalance)
		}
		// The price of groups is that of two splits.
		free, fo := p, o
		fo.Locality, fo.OffNodeReplicas = Free, 0
		if f, x := r.Locality.FreeImbalance[0], mustPlan(t, free, fo).Layers[0].Imbalance; f > 1.05*x {
			t.Errorf("without groups %v, planned without them %v", f, x)
		}
		moved := p
		moved.Previous = &r.Placement
		if f, x := mustPlan(t, moved, o).Locality.FreeImbalance[0], r.Locality.FreeImbalance[0]; f > 1.05*x {
			t.Errorf("without groups %v, from a placement in force %v", x, f)
		}
		whole.Windows = nil
		s := mustPlan(t, whole, o)
		windows += of(r) / problems
		sum += of(s) / problems
	}
	t.Logf("mean imbalance %.4f, planned for the sum %.4f", windows, sum)
	if windows > .97*sum {
		t.Errorf("imbalance %v, planned for the sum %v", windows, sum)
	}
}
