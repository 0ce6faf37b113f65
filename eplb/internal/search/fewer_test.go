package search

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Fewer leaves no more moves than before, within the goal, and often fewer.
func TestFewer(t *testing.T) {
	fewer, all := 0, 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 8))
		task, slot := random(rng)
		if len(task.Share) > 1 {
			continue
		}
		var s State
		var a Annealer
		s.Set(task)
		s.Start(slot)
		a.Anneal(&s, 1<<12, 1, func() bool { return false })
		was, goal := s.Moves(), s.Time()*1.05
		from := slices.Clone(s.Slots())
		s.Start(slot)
		if over := s.Above(goal); over > 0 && was > 0 {
			s.Start(from)
			a.Fewer(&s, 1<<12, goal, over/float64(was), 0, was, func() bool { return false })
			check(t, &s)
			all++
			if s.Moves() < was && s.Time() <= goal*(1+1e-9) {
				fewer++
			} else if s.Moves() > 0 && s.Time() <= goal && s.Moves() > was {
				t.Fatalf("seed %d: %d moves, %d before", seed, s.Moves(), was)
			}
		}
	}
	if fewer*2 < all || all < 20 {
		t.Errorf("%d of %d with fewer moves", fewer, all)
	}
}

// Fewer draws nothing where there are as few moves as must be, and otherwise leaves
// the placement of fewest moves within the goal, over all windows: no more than any
// had when it was asked whether to stop. Where there was none it leaves the last.
func TestFewerLeavesFewest(t *testing.T) {
	found, windows, last := 0, 0, 0
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 9))
		task, slot := random(rng)
		var s State
		var a Annealer
		s.Set(task)
		s.Start(slot)
		a.Anneal(&s, 1<<10, 1, func() bool { return false })
		was, goal, work := s.Moves(), s.Time()*1.05, s.Work()
		from := slices.Clone(s.Slots())
		a.Fewer(&s, 1<<10, goal, .1, was, was, func() bool { return false })
		if s.Work() != work || !slices.Equal(s.Slots(), from) {
			t.Fatalf("seed %d: drew although %d moves are few enough", seed, was)
		}
		asked, fewest := 0, was
		a.Fewer(&s, 1<<10, goal, .1, -1, was, func() bool {
			if s.Time() <= goal*(1-1e-9) {
				fewest = min(fewest, s.Moves())
			}
			from = append(from[:0], s.Slots()...)
			asked++
			return asked == coolings
		})
		check(t, &s)
		switch {
		case s.Moves() > fewest && fewest < was:
			t.Fatalf("seed %d: %d moves, had %d", seed, s.Moves(), fewest)
		case s.Moves() < was && s.Time() <= goal*(1+1e-9):
			found++
			if len(task.Share) > 1 {
				windows++
			}
		case !slices.Equal(s.Slots(), from):
			t.Fatalf("seed %d: %d moves of %d, time %g of %g: neither within the goal nor the last", seed, s.Moves(), was, s.Time(), goal)
		default:
			last++
		}
	}
	if found < 20 || windows < 10 || last < 5 {
		t.Errorf("%d within the goal, %d over windows, %d where it came to", found, windows, last)
	}
}
