package schedule

import (
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/placement"
)

// Units that grow, shrink, lose GPUs and get other slots, under limits of memory
// and peers: no contract is broken.
func TestScheduleRandomResizes(t *testing.T) {
	const seed = 21
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds, bound := 0, 0
	cases := 6000
	if testing.Short() {
		cases = 2000
	}
	for i := range cases {
		prev, next, top, o := randomResize(rng, 3+i%6)
		if i%3 == 0 {
			prev, next, top, o = randomPlan(rng, 3+i%5)
		}
		randomLimits(rng, &o)
		s, err := New(&prev, &next, top, o)
		if err == nil {
			err = execute(&s, &prev, &next, top, o)
		}
		if err != nil {
			t.Fatalf("seed %d, case %d: %v\n%+v\n%+v\n%+v\n%+v\n%+v", seed, i, err, top, o, prev, next, s)
		}
		rounds, bound = rounds+len(s.Rounds), bound+s.RoundsBound
	}
	t.Logf("%d rounds, bound %d: %.3f", rounds, bound, float64(rounds)/float64(bound))
}

// Slots that stay empty take no rounds: the placement before is the one to apply to. What
// no GPU holds is read from outside once, and GPUs that stay cannot leave.
func TestResizeByHand(t *testing.T) {
	prev := placement.Placement{Experts: 2, GPUs: 2, PhysicalToLogical: [][]int{{0, 1}}}
	next := placement.Placement{Experts: 2, GPUs: 2, PhysicalToLogical: [][]int{{0, -1, 1, -1}}}
	unit := placement.Topology{GPUs: 2}
	s, err := New(&prev, &next, unit, Options{})
	if err != nil || len(s.Rounds) != 0 {
		t.Fatal(s, err)
	}
	for _, at := range []*placement.Placement{&prev, &next} {
		if p, err := s.Apply(at, 0); err != nil || p.Slots() != 4 {
			t.Error(p, err)
		}
	}
	for _, back := range []*placement.Placement{&prev, {Experts: 2, GPUs: 1, PhysicalToLogical: [][]int{{0, 1}}}} {
		from := placement.Placement{Experts: 2, GPUs: 2, GPUSlots: []int{2, 1}, PhysicalToLogical: [][]int{{0, 1, -1}}}
		if back == &prev {
			from = next.Clone()
		}
		s, err := New(&from, back, unit, Options{})
		if err != nil || len(s.Rounds) != 0 {
			t.Fatal(s, err)
		}
		p, on, err := s.Forced(&from, unit)
		if err != nil || on.GPUs != 2 || p.GPUs != 2 || p.Validate() != nil {
			t.Error(p, on, err)
		}
		if k, err := s.Stakes(&from, back, []placement.Loads{{{3, 1}}}, unit, Stakes{}); err != nil || k.Before[0] != k.After[0] {
			t.Error(k, err)
		}
	}
	prev.PhysicalToLogical[0][1] = -1
	next.PhysicalToLogical[0] = []int{0, 1, 1, 0}
	if s, err := New(&prev, &next, unit, Options{PerGPU: 2}); err != nil || s.Outside != 1 || s.Moves != 3 {
		t.Error(s, err)
	}
	for _, g := range []int{-1, 1, 2} {
		if _, err := New(&prev, &next, unit, Options{Leaving: []int{g}}); err == nil {
			t.Errorf("GPU %d leaves", g)
		}
	}
}
