package schedule

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// What is weighed against the rest of a schedule is a placement that serves: no
// expert is missing, and GPUs that are to be empty are no longer counted.
func TestForced(t *testing.T) {
	const seed = 61
	rng := rand.New(rand.NewPCG(seed, 0))
	urgent := 0
	for i := range 400 {
		prev, next, top, o := randomResize(rng, 6)
		if i%2 == 0 {
			next = placement.Placement{Experts: prev.Experts, GPUs: prev.GPUs, GPUSlots: prev.GPUSlots, PhysicalToLogical: prev.Clone().PhysicalToLogical}
			top, o = placement.Topology{GPUs: prev.GPUs}, Options{}
			if next.CheckComplete() != nil {
				continue
			}
		}
		s, err := New(&prev, &next, top, o)
		if err != nil {
			t.Fatal(err)
		}
		p, on, err := s.Forced(&prev, top)
		if err != nil {
			t.Fatalf("seed %d, case %d: %v", seed, i, err)
		}
		scores, err := p.ScoreLayers(placement.NewLoads(len(p.PhysicalToLogical), p.Experts), on)
		if err != nil {
			t.Fatalf("seed %d, case %d: %v", seed, i, err)
		}
		for l, x := range scores {
			if x.Missing != nil || math.IsInf(x.Imbalance, 1) {
				t.Fatalf("seed %d, case %d, layer %d: %v are missing after %d rounds", seed, i, l, x.Missing, s.forced())
			}
		}
		loads := placement.NewLoads(len(p.PhysicalToLogical), p.Experts)
		for _, row := range loads {
			for e := range row {
				row[e] = float64(rng.IntN(50))
			}
		}
		k, err := s.Stakes(&prev, &next, []placement.Loads{loads}, top, Stakes{Horizon: 7})
		if err != nil || k.Horizon != 7 {
			t.Fatalf("seed %d, case %d: %v", seed, i, err)
		}
		end := placement.Topology{GPUs: next.GPUs, Speed: make([]float64, next.GPUs)}
		for g := range end.Speed {
			end.Speed[g] = top.SpeedOf(g)
		}
		for _, c := range []struct {
			got []float64
			at  *placement.Placement
			on  placement.Topology
		}{{k.Before, &p, on}, {k.After, &next, end}} {
			want, err := c.at.ScoreLayers(loads, c.on)
			if err != nil {
				t.Fatal(err)
			}
			for l, x := range want {
				if math.Abs(c.got[l]-x.Imbalance) > 1e-9 {
					t.Fatalf("seed %d, case %d, layer %d: %v at stake, scored %v", seed, i, l, c.got[l], x.Imbalance)
				}
			}
		}
		for g := range on.GPUs {
			if gone := slices.Contains(s.Dead, g) || slices.Contains(s.Leaving, g); gone != (on.SpeedOf(g) == 0) {
				t.Fatalf("seed %d, case %d: GPU %d has speed %v", seed, i, g, on.SpeedOf(g))
			}
		}
		if s.forced() > 0 {
			urgent++
		}
	}
	if urgent < 50 {
		t.Errorf("%d cases with rounds that must be done: too few", urgent)
	}
	// The imbalance of a unit that grows is that of the GPUs it will have.
	prev := placement.Placement{Experts: 2, GPUs: 1, PhysicalToLogical: [][]int{{0, 1}}}
	next := placement.Placement{Experts: 2, GPUs: 2, PhysicalToLogical: [][]int{{0, -1, 1, -1}}}
	s, err := New(&prev, &next, placement.Topology{GPUs: 2}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, on, err := s.Forced(&prev, placement.Topology{GPUs: 2, Speed: []float64{1, .5}})
	if err != nil || !slices.Equal(on.Speed, []float64{1, .5}) {
		t.Errorf("GPUs of speed %v, %v", on.Speed, err)
	}
	p, on, err := s.Forced(&prev, placement.Topology{GPUs: 2})
	if err != nil {
		t.Fatal(err)
	}
	if x, err := p.ScoreLayers(placement.Loads{{1, 1}}, on); err != nil || x[0].Imbalance != 2 {
		t.Error(x, err)
	}
}

// In every round what is nowhere goes before what is on leaving GPUs alone, of whatever
// layer, and that before the rest.
func TestUrgentFirst(t *testing.T) {
	// GPU 1 receives one copy a round, of experts 1. GPU 0 stays, 2 leaves, 3 is dead.
	prev := placement.Placement{Experts: 2, GPUs: 4, PhysicalToLogical: [][]int{{1, 0, -1, -1}, {0, -1, 1, -1}, {0, -1, -1, 1}}}
	next := placement.Placement{Experts: 2, GPUs: 4, PhysicalToLogical: [][]int{{0, 1, -1, -1}, {0, 1, -1, -1}, {0, 1, -1, -1}}}
	s, err := New(&prev, &next, placement.Topology{GPUs: 4, Speed: []float64{1, 1, 0, 0}}, Options{Leaving: []int{2}})
	if err != nil {
		t.Fatal(err)
	}
	var layers []int
	for _, r := range s.Rounds {
		for _, m := range r.Moves {
			if m.To == 1 && m.Expert == 1 {
				layers = append(layers, m.Layer)
			}
		}
	}
	if !slices.Equal(layers, []int{2, 1, 0}) || s.Restore != 1 || s.Emptied != 2 {
		t.Errorf("GPU 1 receives of layers %v, restored in %d rounds, emptied in %d", layers, s.Restore, s.Emptied)
	}
}
