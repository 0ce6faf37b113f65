package traffic

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Fewer keeps every expert and no two of one on a GPU, never takes more moves than
// a placement within aim that it was told of, and finds what was there to find.
func TestFewer(t *testing.T) {
	found, told, sum, least := 0, 0, 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		u := testUnit(rng, 2+rng.IntN(3))
		experts := max(6, u.Slots()*2/3)
		if experts > u.Slots() {
			continue
		}
		y, slot := testLayer(rng, u, experts, 1+rng.IntN(2), 3, 10)
		y.Was = slices.Clone(slot)
		for i := range u.First[1] { // the first GPU is new
			y.Was[i] = -1
		}
		if seed%3 == 0 {
			y.Apart = u.Node
			if !apartAll(u, slot, experts) {
				y.Apart = nil
			}
		}
		// Some exchanges on: a placement that is within its own level.
		s := newState(u, &Layer{Loads: y.Loads, Weight: y.Weight, Even: y.Even, Was: y.Was, Moves: 1 << 20, Apart: y.Apart}, slot)
		for range 30 {
			if i, j := rng.IntN(len(slot)), rng.IntN(len(slot)); s.exchange(i, j) {
				s.apply(i, j, s.weigh())
			}
		}
		levels := make([]float64, len(y.Loads))
		aim, most := (&search{state: s}).levels(levels), s.moves
		best := slices.Clone(slot)
		Fewer(u, y, best, aim*1.0001, u.First[1], most, func() bool { return false })
		_, _, moves, _ := naive(u, y, best)
		level := 0.0
		for k, x := range Levels(u, y, best) {
			level += y.Weight[k] * x
		}
		told++
		if moves < most && level <= aim*1.0001 {
			found++
			least += u.First[1]
			sum += moves
		}
		if y.Apart != nil && !apartAll(u, best, experts) {
			t.Errorf("seed %d: an expert is in one block", seed)
		}
		seen := make([]bool, experts)
		for g := range u.Node {
			mine := slices.Clone(best[u.First[g]:u.First[g+1]])
			for _, e := range mine {
				seen[e] = true
			}
			slices.Sort(mine)
			if len(slices.Compact(mine)) != u.First[g+1]-u.First[g] {
				t.Errorf("seed %d: GPU %d holds an expert twice", seed, g)
			}
		}
		if slices.Contains(seen, false) {
			t.Errorf("seed %d: an expert is lost", seed)
		}
	}
	if 10*found < 9*told {
		t.Errorf("of %d placements %d were bettered", told, found)
	}
	if sum > 122 { // what it finds today
		t.Errorf("%d moves, at least %d", sum, least)
	}
}

// apartAll says whether every expert is on two nodes.
func apartAll(u *Unit, slot []int32, experts int) bool {
	on := make([]uint64, experts)
	for g, n := range u.Node {
		for _, e := range slot[u.First[g]:u.First[g+1]] {
			on[e] |= 1 << n
		}
	}
	for _, m := range on {
		if m&(m-1) == 0 {
			return false
		}
	}
	return true
}
