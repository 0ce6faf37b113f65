package search

import (
	"cmp"
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
	if firm == 0 || work*10 > firm {
		t.Errorf("work of %d after a stop, where that is to be firm %d", work, firm)
	}
}

// Where speeds differ, the better of two starts counts, whichever has the counts for it;
// where they do not, the one whose counts fit, whichever comes first.
func TestJointStarts(t *testing.T) {
	const gpus, room, experts, windows = 12, 6, 40, 4
	spent := 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 11))
		task := &Task{Experts: experts, First: []int{0}, Share: slices.Repeat([]float64{1. / windows}, windows)}
		for g := range gpus {
			task.First = append(task.First, room*(g+1))
			task.Speed = append(task.Speed, []float64{.25, 1.75}[g%2])
		}
		for range experts * windows {
			x := rng.Float64()
			task.Load = append(task.Load, x*x*x)
		}
		starts := [2][]int32{}
		for k := range starts {
			for len(starts[k]) < gpus*room {
				e := int32(len(starts[k]))
				if e >= experts {
					e = int32(rng.IntN(experts))
				}
				if at := len(starts[k]) / room * room; !slices.Contains(starts[k][at:], e) {
					starts[k] = append(starts[k], e)
				}
			}
		}
		var s State
		var j Joint
		s.Set(task)
		search := func(seeds ...[]int32) float64 {
			j.Search(&s, seeds, 0, false, func() bool { return false })
			return j.BestTime
		}
		a := search(starts[0])
		workA := j.work
		b := search(starts[1])
		if min(workA, j.work) < 4*kickWork { // that more was tried tells nothing
			continue
		}
		spent++
		if x := search(starts[0], starts[1]); x > min(a, b)*(1+1e-12) {
			t.Errorf("seed %d: %v from both, %v and %v from one", seed, x, a, b)
		}
		task.Speed = slices.Repeat([]float64{1}, gpus)
		s.Set(task)
		if x, y := search(starts[0], starts[1]), search(starts[1], starts[0]); x != y {
			t.Errorf("seed %d: %v, and %v in the other order", seed, x, y)
		}
	}
	if spent < 10 {
		t.Errorf("%d of 20 take all work", spent)
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

// Where there is work for one start alone, it is that whose counts fit the windows.
func TestJointStartFits(t *testing.T) {
	const gpus, room, experts, windows = 32, 3, 64, 6
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 12))
		task := &Task{Experts: experts, First: []int{0}, Speed: slices.Repeat([]float64{1}, gpus), Share: slices.Repeat([]float64{1. / windows}, windows)}
		for g := range gpus {
			task.First = append(task.First, room*(g+1))
		}
		for e := range experts {
			for range windows {
				task.Load = append(task.Load, (.5+rng.Float64())*4/float64(e+1))
			}
		}
		fits := task.Peaks()
		unfit := slices.Clone(fits)
		slices.Reverse(unfit) // the coldest have the most replicas
		var s State
		var j Joint
		s.Set(task)
		search := func(seeds ...[]int32) float64 {
			j.Search(&s, seeds, 0, false, func() bool { return false })
			if j.work < kickWork {
				t.Fatalf("seed %d: only %d looked at", seed, j.work)
			}
			return j.BestTime
		}
		good, bad := search(dealt(task, fits)), search(dealt(task, unfit))
		if x := search(dealt(task, unfit), dealt(task, fits)); x != good || good == bad {
			t.Errorf("seed %d: %v from both, %v from the one that fits, %v from the other", seed, x, good, bad)
		}
	}
}

// dealt are counts for some loads, the replicas dealt out to the lightest GPUs.
func dealt(t *Task, load []float64) []int32 {
	count := slices.Repeat([]float64{1}, t.Experts)
	for range t.Slots() - t.Experts {
		most := 0
		for e, x := range load {
			if count[e] < float64(t.GPUs()) && x/count[e] > load[most]/count[most] {
				most = e
			}
		}
		count[most]++
	}
	order := make([]int32, t.Experts)
	for e := range order {
		order[e] = int32(e)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(load[b]/count[b], load[a]/count[a]) })
	on, level := make([][]int32, t.GPUs()), make([]float64, t.GPUs())
	for _, e := range order {
		for range int(count[e]) {
			best := -1
			for g := range on {
				if len(on[g]) < t.First[g+1]-t.First[g] && !slices.Contains(on[g], e) && (best < 0 || level[g] < level[best]) {
					best = g
				}
			}
			on[best], level[best] = append(on[best], e), level[best]+load[e]/count[e]
		}
	}
	return slices.Concat(on...)
}
