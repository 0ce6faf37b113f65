package search

import (
	"math"
	"math/rand/v2"
	"testing"
)

// nodesOver is what nodes carry above a level, by their GPUs' levels alone.
func nodesOver(s *State, level float64) (total float64) {
	load, power := map[int]float64{}, map[int]float64{}
	for g, v := range s.t.Speed {
		power[s.t.Node[g]] += v
		load[s.t.Node[g]] += s.level[g*s.n] * v
	}
	for a, x := range load {
		total += max(0, x-level*power[a])
	}
	return total
}

// What nodes carry too much falls step by step and what must hold is kept. Where
// evening them out ends for lack of steps, no copy more of what is on the fullest node
// would have helped, and no exchange where those were looked at.
func TestEvenNodes(t *testing.T) {
	evened, ended := 0, 0
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 21))
		task, slot := random(rng)
		if task.Home == nil || len(task.Share) > 1 {
			continue
		}
		task.MostOff += rng.IntN(3)
		task.Prev = nil
		var s State
		s.Set(task)
		s.Start(slot)
		level := 1 + .05*rng.Float64()
		before := nodesOver(&s, level)
		s.EvenNodes(level, func() bool { return false })
		task.Prev = slot
		s.Start(s.Slots())
		check(t, &s)
		after := nodesOver(&s, level)
		if got := s.NodesOver(level); math.Abs(got-after) > 1e-9 || after > before+1e-9 {
			t.Fatalf("seed %d: %v above the level, counted %v, before %v", seed, got, after, before)
		}
		if before > 0 && after < 1e-9 {
			evened++
		}
		if after < 1e-6 {
			continue
		}
		ended++
		fullest, most := 0, 0.0
		for a, x := range s.nodes.over {
			if x > most {
				fullest, most = a, x
			}
		}
		spare := false
		try := func(c Change) {
			var u State
			u.Set(task)
			u.Start(s.Slots())
			u.Apply(c)
			u.Refresh()
			if x := nodesOver(&u, level); x < after-1e-6 {
				// Steps must gain on the whole; what harms GPUs as much need not be taken.
				s.twice, s.over = 0, level
				was := s.weigh()
				if u.twice, u.over = 0, level; after-x+gpusRough*(was-u.weigh()) > 1e-6 {
					t.Fatalf("seed %d: %v is left to do, from %v to %v", seed, c, after, x)
				}
			}
		}
		for i := range s.slot {
			g := s.gpu[i]
			if !s.mayDrop(int32(i)) {
				continue
			}
			spare = true
			for e := range int32(task.Experts) {
				on := false
				for _, j := range s.at[e] {
					on = on || task.Node[s.gpu[j]] == fullest
				}
				if on && !s.holds(g, e) && s.mayHold(g, s.slot[i], e) {
					try(Change{int32(i), -1, e})
				}
			}
		}
		for i := range s.slot {
			for j := range s.slot {
				g, h := s.gpu[i], s.gpu[j]
				if (!spare || after < nearlyEven) && task.Node[g] == fullest && task.Node[h] != fullest &&
					!s.holds(h, s.slot[i]) && !s.holds(g, s.slot[j]) && s.mayExchange(int32(i), int32(j)) {
					try(Change{int32(i), int32(j), -1})
				}
			}
		}
	}
	if evened < 10 || ended < 10 {
		t.Errorf("%d layers evened out, %d ended short of it", evened, ended)
	}
}
