package schedule

import (
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/placement"
)

// fewestRounds searches all schedules of one copy a GPU and round, breadth
// first, over sets of experts: copies within a GPU are free.
func fewestRounds(have, want []uint8, slots []int, all uint8) int {
	type state [4]uint8
	var start, end state
	copy(start[:], have)
	copy(end[:], want)
	seen := map[state]bool{start: true}
	for level, now := 0, []state{start}; len(now) > 0; level++ {
		var next []state
		for _, s := range now {
			if s == end {
				return level
			}
			var rec func(g int, to state, sent uint8)
			rec = func(g int, to state, sent uint8) {
				if g == len(have) {
					if to[0]|to[1]|to[2]|to[3] == all && !seen[to] {
						seen[to] = true
						next = append(next, to)
					}
					return
				}
				// Receive nothing, or an expert it is to keep from each possible holder;
				// then drop any of what it is not to keep.
				drops := func(set uint8, sent uint8) {
					may := s[g] &^ want[g]
					for d := may; ; d = (d - 1) & may {
						if bits.OnesCount8(set&^d) <= slots[g] {
							to[g] = set &^ d
							rec(g+1, to, sent)
						}
						if d == 0 {
							return
						}
					}
				}
				drops(s[g], sent)
				for need := want[g] &^ s[g]; need != 0; need &= need - 1 {
					e := need & -need
					for h := range have {
						if s[h]&e != 0 && sent>>h&1 == 0 {
							drops(s[g]|e, sent|1<<h)
						}
					}
				}
			}
			rec(0, state{}, 0)
		}
		now = next
	}
	return -1
}

// TestScheduleAgainstAllSchedules: on tiny units the bound never lies above the
// fewest rounds, and schedules rarely take more.
func TestScheduleAgainstAllSchedules(t *testing.T) {
	const seed = 5
	rng := rand.New(rand.NewPCG(seed, 0))
	ours, fewest, bounds := 0, 0, 0
	for i := range 1500 {
		gpus := 2 + rng.IntN(3)
		p := placement.Placement{GPUs: gpus, GPUSlots: make([]int, gpus), PhysicalToLogical: make([][]int, 1)}
		total := 0
		for g := range p.GPUSlots {
			p.GPUSlots[g] = 1 + rng.IntN(6-gpus)
			total += p.GPUSlots[g]
		}
		most := min(7, total)
		p.Experts = most - rng.IntN((most+1)/2)
		// draw fills the slots of every GPU with different experts, some left empty.
		draw := func() (placement.Placement, []uint8) {
			for {
				q := p
				q.PhysicalToLogical = make([][]int, 1)
				sets := make([]uint8, gpus)
				for g, n := range p.GPUSlots {
					perm := rng.Perm(p.Experts)
					for j := range n {
						e := -1
						if j < len(perm) && rng.IntN(12) > 0 {
							e = perm[j]
							sets[g] |= 1 << e
						}
						q.PhysicalToLogical[0] = append(q.PhysicalToLogical[0], e)
					}
				}
				if q.CheckComplete() == nil {
					return q, sets
				}
			}
		}
		prev, have := draw()
		next, want := draw()
		s, err := New(&prev, &next, placement.Topology{GPUs: gpus}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		least := fewestRounds(have, want, p.GPUSlots, 1<<p.Experts-1)
		if least == 0 {
			least = min(1, len(s.Rounds)) // slots of one GPU alone
		}
		if s.RoundsBound > least || least > len(s.Rounds) || len(s.Rounds) > least+2 {
			t.Fatalf("seed %d, case %d: %d rounds, the fewest are %d, bound %d\n%v %v\n%v\n%v", seed, i, len(s.Rounds), least, s.RoundsBound, p.GPUSlots, prev.PhysicalToLogical, next.PhysicalToLogical, s.Rounds)
		}
		ours, fewest, bounds = ours+len(s.Rounds), fewest+least, bounds+s.RoundsBound
	}
	t.Logf("%d rounds, the fewest %d, bound %d", ours, fewest, bounds)
	if float64(ours) > 1.02*float64(fewest) {
		t.Errorf("%d rounds, the fewest %d: more than 2%% too many", ours, fewest)
	}
}
