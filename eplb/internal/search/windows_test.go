package search

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A front's points are what they say, fall in time, and end with no moves where
// paths lead back.
func TestFront(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		task, slot := random(rng)
		var s State
		s.Set(task)
		f := Front{ByTime: true}
		f.Only(&s, slot)
		goal := Goal{Time: 1, Moves: 1 << 30, Stop: func() bool { return false }}
		for _, twice := range []int{0, 4, 6} {
			if twice > 0 || len(task.Share) == 1 {
				s.Ahead(&f, slot, twice, goal)
				s.Spread(&f, slot, twice, 1+rng.IntN(8), goal)
			}
		}
		if len(task.Share) == 1 {
			s.Spread(&f, slot, 5, 4, goal)
		}
		far := f.Slots(f.Points[len(f.Points)-1])
		s.Retreat(&f, far, 5, goal)
		last := Point{Moves: -1, Time: math.Inf(1)}
		for _, p := range f.Points {
			if p.Moves <= last.Moves || p.Time >= last.Time {
				t.Fatalf("seed %d: %+v after %+v", seed, p, last)
			}
			last = p
			s.Start(f.Slots(p))
			check(t, &s)
			if s.Moves() != p.Moves || math.Abs(s.Time()-p.Time) > 1e-9 {
				t.Fatalf("seed %d: %d moves to %v, told %+v", seed, s.Moves(), s.Time(), p)
			}
		}
		if p, ok := f.Within(last.Time); !ok || p != last {
			t.Errorf("seed %d: %+v within %v", seed, p, last.Time)
		}
		if _, ok := f.Within(last.Time - 1e-6); ok {
			t.Errorf("seed %d: a point below the last", seed)
		}
	}
}

// Joint plans are no worse than what they start from, allowed, and the same again.
func TestJoint(t *testing.T) {
	better, firm, work := 0, 0, 0
	for seed := range uint64(100) {
		task, slot := random(rand.New(rand.NewPCG(seed, 4)))
		var s State
		var j Joint
		s.Set(task)
		s.Start(slot)
		was := s.Time()
		j.Search(&s, [][]int32{slot}, 1, true, func() bool { return false })
		s.Start(j.Best)
		check(t, &s)
		if x := s.Time(); x > was+1e-9 || math.Abs(x-j.BestTime) > 1e-9 {
			t.Fatalf("seed %d: %v from %v, told %v", seed, x, was, j.BestTime)
		} else if x < was-1e-9 {
			better++
		}
		first := slices.Clone(j.Best)
		j.Search(&s, [][]int32{slot}, 1, true, func() bool { return false })
		if !slices.Equal(first, j.Best) {
			t.Fatalf("seed %d: another plan the second time", seed)
		}
		// Stopped at once it still has a plan.
		j.Search(&s, [][]int32{slot}, 1, true, func() bool { return true })
		firm += j.work
		s.Start(j.Best)
		check(t, &s)
		j.Search(&s, [][]int32{slot}, 1, false, func() bool { return true })
		work += j.work
		s.Start(j.Best)
		check(t, &s)
	}
	if better < 80 {
		t.Errorf("%d of 100 better than at first", better)
	}
	if work*10 > firm {
		t.Errorf("work of %d after a stop, where that is to be firm %d", work, firm)
	}
}

// Many paths at once reach a goal in fewer moves than one, never pass as many as they may
// make, and leave the search as it was.
func TestSpread(t *testing.T) {
	fewer, more, most := 0, 0, 0
	for seed := range uint64(200) {
		task, slot := random(rand.New(rand.NewPCG(seed, 6)))
		var s State
		s.Set(task)
		goal := Goal{Time: 1, Moves: 1 << 30, Stop: func() bool { return false }}
		walk := func(width int) Front {
			f := Front{ByTime: true}
			f.Only(&s, slot)
			if width == 0 {
				s.Ahead(&f, slot, 5, goal)
			} else {
				s.Spread(&f, slot, 5, width, goal)
			}
			return f
		}
		one := walk(0)
		last := one.Points[len(one.Points)-1]
		goal.Time = last.Time
		if q, ok := func() (Point, bool) { f := walk(16); return f.Within(last.Time) }(); ok && q.Moves < last.Moves {
			fewer++
		} else if !ok || q.Moves > last.Moves {
			more++
		}
		goal.Time, goal.Moves = 1, one.Points[0].Moves+2
		f := walk(16)
		if n := f.Points[len(f.Points)-1].Moves; n > goal.Moves {
			t.Fatalf("seed %d: %d moves of %d", seed, n, goal.Moves)
		} else {
			most = max(most, n-one.Points[0].Moves)
		}
		goal.Moves = 1 << 30
		if again := walk(0); !slices.Equal(again.Slots(again.Points[len(again.Points)-1]), one.Slots(last)) {
			t.Fatalf("seed %d: one path is another after many", seed)
		}
	}
	if fewer < 40 || more > fewer/2 || most < 2 {
		t.Errorf("fewer moves in %d layers, more in %d; %d of 2 at most", fewer, more, most)
	}
}
