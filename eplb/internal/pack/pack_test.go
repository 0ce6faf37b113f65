package pack

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// Where replicas are packed apart, a GPU that no chain of experts joins yet comes before
// a lighter one that is joined, and one with room before all.
func TestPackApart(t *testing.T) {
	s := New(problem.NewUnit(&placement.Topology{GPUs: 4}, 12, 7), 7)
	s.SetLoads([]float64{10, 4.5, 4.4, 4, 2, .3, .05})
	copy(s.Count, []int32{2, 1, 1, 2, 2, 3, 1})
	s.PackApart()
	// Expert 4 comes to GPU 0 and not to 1, which is as light, but to 3.
	if want := []int32{0, 4, 5, 0, 5, 6, 1, 3, 5, 2, 3, 4}; !slices.Equal(s.Slot, want) {
		t.Errorf("%v, want %v", s.Slot, want)
	}
}

// TestDeadEnds demands that every packing is one, also where all GPUs with room hold what
// is to come: all replicas placed, no expert twice on a GPU.
func TestDeadEnds(t *testing.T) {
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
}

// TestPackAgainstNaive packs by looking at all GPUs for every replica.
func TestPackAgainstNaive(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		gpus := 2 + rng.IntN(6)
		experts := 2 + rng.IntN(11)
		top := placement.Topology{GPUs: gpus}
		for g := 0; seed%2 == 0 && g < gpus; g++ {
			top.Speed = append(top.Speed, []float64{.25, 1, 4}[rng.IntN(3)])
		}
		s := New(problem.NewUnit(&top, experts+rng.IntN(experts*(gpus-1)+1), experts), experts)
		loads := make([]float64, experts)
		for e := range loads {
			loads[e] = float64(1 + rng.IntN(30)*rng.IntN(30))
		}
		s.SetLoads(loads)
		if !s.CountBy(rng.IntN(len(CapLimits)+1)-1, 1) {
			continue
		}
		s.Pack()
		got := slices.Clone(s.Slot)
		s.Begin()
		for _, e := range s.Ranked {
			for range s.Count[e] {
				best, level := -1, 0.0
				for g, v := range s.U.Speed {
					l := s.Load[g]
					if !s.U.Equal {
						l = (l + s.Size[e]) / v
					}
					if int(s.Used[g]) < s.U.First[g+1] && !s.Holds(g, e) && (best < 0 || l < level) {
						best, level = g, l
					}
				}
				if best < 0 {
					s.squeeze(e)
				} else {
					s.Put(e, best)
				}
			}
		}
		if !slices.Equal(got, s.Slot) {
			t.Fatalf("seed %d: %v, want %v", seed, got, s.Slot)
		}
	}
}
