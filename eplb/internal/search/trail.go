package search

import (
	"math"
	"slices"
)

// Point is a placement on the way: its moves and its time.
type Point struct {
	Moves int
	Time  float64
	Key   float64 // what points are compared by
	at    int32   // in Front.steps
}

// Front keeps, of all placements that paths pass, those that no other beats in
// moves and in time both.
type Front struct {
	Points []Point // by moves; their keys fall
	ByTime bool    // their key is their time
	starts [][]int32
	steps  []step // of all paths, which may share their first ones
	at     int32  // the latest
}

// step is a change and the step before it; where a path starts, B is the place of its
// layout in starts, and from -1.
type step struct {
	Change
	from int32
}

// begin notes a new path from the placement at hand.
func (f *Front) begin(s *State) {
	f.starts = append(f.starts, slices.Clone(s.slot))
	f.at = -1
	f.step(s, Change{B: int32(len(f.starts) - 1)})
}

// do makes a change on the path at hand, or where nothing is noted, f being nil, makes it.
func (f *Front) do(s *State, c Change) {
	s.Apply(c)
	if f != nil {
		f.step(s, c)
	}
}

func (f *Front) step(s *State, c Change) {
	f.steps = append(f.steps, step{c, f.at})
	f.at = int32(len(f.steps) - 1)
	f.add(s)
}

// add notes the placement at hand if it is allowed.
func (f *Front) add(s *State) {
	if s.t.Home == nil || s.off <= s.t.MostOff {
		f.note(s)
	}
}

func (f *Front) note(s *State) {
	time := s.Time()
	p := Point{s.moves, time, time, f.at}
	if !f.ByTime && s.n > 1 {
		p.Key = s.key()
	}
	i, found := slices.BinarySearchFunc(f.Points, p.Moves, func(q Point, m int) int { return q.Moves - m })
	if i > 0 && f.Points[i-1].Key <= p.Key || found && f.Points[i].Key <= p.Key {
		return
	}
	j := i
	for j < len(f.Points) && f.Points[j].Key >= p.Key {
		j++
	}
	f.Points = slices.Replace(f.Points, i, j, p)
}

// Slots is the placement of a point; of the zero Point, that which the first path began
// from.
func (f *Front) Slots(p Point) []int32 { return f.slots(p.at) }

func (f *Front) slots(at int32) []int32 {
	x := f.steps[at]
	if x.from < 0 {
		return slices.Clone(f.starts[x.B])
	}
	slot := f.slots(x.from)
	if x.B >= 0 {
		slot[x.A], slot[x.B] = slot[x.B], slot[x.A]
	} else {
		slot[x.A] = x.E
	}
	return slot
}

// Add notes a layout, allowed or not.
func (f *Front) Add(s *State, slot []int32) {
	s.Start(slot)
	f.begin(s)
	f.note(s)
}

// Only makes a layout all there is, allowed or not.
func (f *Front) Only(s *State, slot []int32) {
	*f = Front{ByTime: f.ByTime}
	f.Add(s, slot)
}

// Fall drops the points whose time is not below that of all with fewer moves.
func (f *Front) Fall() {
	out := f.Points[:1]
	for _, p := range f.Points[1:] {
		if p.Time < out[len(out)-1].Time {
			out = append(out, p)
		}
	}
	f.Points = out
}

// Within is the point of fewest moves whose time is at most t; where there is none, ok is
// false and it is the last.
func (f *Front) Within(t float64) (p Point, ok bool) {
	for _, p = range f.Points {
		if p.Time <= t {
			return p, true
		}
	}
	return p, false
}

// Goal ends paths.
type Goal struct {
	Time  float64 // it is reached
	Moves int     // more is not allowed
	Stop  func() bool
}

// AheadByCounts makes a layout's experts those of another, on every node where nodes
// matter, and walks ahead by exchanges as far as they go, then by any change. It says
// whether there was room for them.
func (s *State) AheadByCounts(f *Front, from, to []int32, twice int, goal Goal) bool {
	s.Start(from)
	if !s.Recount(to) {
		return false
	}
	s.setOut(f, slices.Clone(s.slot), twice, goal)
	s.fixed = true
	s.ahead(f, goal)
	s.fixed = false
	s.ahead(f, goal)
	return true
}

// Ahead walks forward from a layout, each step the change that gains most a move,
// under the norm of the power 2^twice. Rounding can promise a gain that is not there: a path
// ends where it did.
func (s *State) Ahead(f *Front, from []int32, twice int, goal Goal) {
	s.setOut(f, from, twice, goal)
	s.ahead(f, goal)
}

// setOut begins a path from a layout.
func (s *State) setOut(f *Front, from []int32, twice int, goal Goal) {
	s.Start(from)
	s.twice, s.over = twice, goal.Time
	f.begin(s)
}

// ahead walks on from the placement at hand.
func (s *State) ahead(f *Front, goal Goal) {
	clear(s.isHot)
	s.onward, s.most = s.twice == 0 && f != nil, goal.Moves
	for last := math.Inf(1); s.Time() > goal.Time && !goal.Stop(); last = s.now {
		c, ok := s.Forward(leastGain)
		if !ok || s.now >= last {
			return
		}
		f.do(s, c)
	}
}

// Keep forgets all points but one.
func (f *Front) Keep(p Point) { f.Points = append(f.Points[:0], p) }

// Descend makes changes, which cost nothing, that bring GPUs below a level, until
// none is above it, no change helps or stop, and returns the time. There is one
// window.
func (s *State) Descend(over float64, stop func() bool) float64 {
	s.twice, s.over = 0, over
	s.ahead(nil, Goal{Time: over, Moves: math.MaxInt, Stop: stop})
	s.Refresh()
	return s.Time()
}

// leastGain is the gain a move that a step must have.
const leastGain = 1e-8
