package pack

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// A GPU that passes comes before a lighter one that does not, one with room before all.
func TestLightestFor(t *testing.T) {
	s := New(problem.NewUnit(&placement.Topology{GPUs: 3}, 6, 4), 4)
	s.SetLoads([]float64{4, 3, 2, 1})
	s.Adams(6, 3, 0)
	s.Begin()
	s.Put(0, 0)
	s.Put(1, 1)
	last := func(gpu int) bool { return gpu == 1 }
	if g, h := s.LightestFor(3, nil), s.LightestFor(3, last); g != 2 || h != 1 {
		t.Errorf("GPU %d of all, %d of those that pass", g, h)
	}
	s.Put(2, 1)
	if g := s.LightestFor(3, last); g != 2 {
		t.Errorf("GPU %d where the one that passes is full", g)
	}
}

// TestDeadEnds demands that every packing is one, also where all GPUs with room hold what
// is to come: all replicas placed, no expert twice on a GPU.
func TestDeadEnds(t *testing.T) {
	ends := 0
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		gpus := 2 + rng.IntN(6)
		experts := 2 + rng.IntN(10)
		slots := experts + rng.IntN((gpus-1)*experts+1)
		speed := make([]float64, gpus)
		for g := range speed {
			speed[g] = 1 + float64(rng.IntN(3))*float64(seed%2)
		}
		s := New(problem.NewUnit(&placement.Topology{GPUs: gpus, Speed: speed}, slots, experts), experts)
		loads := make([]float64, experts)
		for e := range loads {
			loads[e] = math.Exp(2 * rng.NormFloat64())
		}
		s.SetLoads(loads)
		if !s.CountBy(rng.IntN(len(CapLimits)+1)-1, 1) {
			continue
		}
		if s.U.Equal && !s.packAlike() {
			ends++
		}
		if s.Pack(); seed%3 == 0 {
			s.PackApart()
		}
		left := slices.Clone(s.Count)
		for g := range gpus {
			on := slices.Clone(s.Slot[s.U.First[g]:s.U.First[g+1]])
			slices.Sort(on)
			if len(slices.Compact(slices.Clone(on))) < len(on) || int(s.Used[g]) != s.U.First[g+1] {
				t.Fatalf("seed %d: GPU %d holds %v", seed, g, on)
			}
			for _, e := range on {
				left[e]--
			}
		}
		if slices.Max(left) != 0 || slices.Min(left) != 0 {
			t.Fatalf("seed %d: counts %v, left %v", seed, s.Count, left)
		}
	}
	if ends < 20 {
		t.Errorf("%d dead ends alone", ends)
	}
}
