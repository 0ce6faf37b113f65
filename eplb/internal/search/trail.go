package search

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Point is a placement on the way: its moves and its time.
type Point struct {
	Moves int
	Time  float64
	Key   float64 // what points are compared by
	path  int     // in Front.paths
	steps int
}

// Front keeps, of all placements that paths pass, those that no other beats in
// moves and in time both.
type Front struct {
	Points []Point // by moves; their keys fall
	ByTime bool    // their key is their time
	paths  []path
}

type path struct {
	start []int32
	steps []Change
}

// begin notes a new path from the placement at hand.
func (f *Front) begin(s *State) {
	f.paths = append(f.paths, path{start: slices.Clone(s.slot)})
	f.add(s)
}

// do makes a change on the path that was begun last, or where nothing is noted, f
// being nil, makes it.
func (f *Front) do(s *State, c Change) {
	s.Apply(c)
	if f != nil {
		p := &f.paths[len(f.paths)-1]
		p.steps = append(p.steps, c)
		f.add(s)
	}
}

// add notes the placement at hand if it is allowed.
func (f *Front) add(s *State) {
	if s.t.Home == nil || s.off <= s.t.MostOff {
		f.note(s)
	}
}

func (f *Front) note(s *State) {
	time := s.Time()
	p := Point{s.moves, time, time, len(f.paths) - 1, len(f.paths[len(f.paths)-1].steps)}
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
func (f *Front) Slots(p Point) []int32 {
	slot := slices.Clone(f.paths[p.path].start)
	for _, c := range f.paths[p.path].steps[:p.steps] {
		if c.B >= 0 {
			slot[c.A], slot[c.B] = slot[c.B], slot[c.A]
		} else {
			slot[c.A] = c.E
		}
	}
	return slot
}

// Add notes a layout, allowed or not.
func (f *Front) Add(s *State, slot []int32) {
	s.Start(slot)
	f.paths = append(f.paths, path{start: slices.Clone(slot)})
	f.note(s)
}

// Only makes a layout all there is, allowed or not.
func (f *Front) Only(s *State, slot []int32) {
	f.paths, f.Points = f.paths[:0], f.Points[:0]
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

// Within is the point of fewest moves whose time is at most t.
func (f *Front) Within(t float64) (Point, bool) {
	for _, p := range f.Points {
		if p.Time <= t {
			return p, true
		}
	}
	return Point{}, false
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
	s.setOut(f, slices.Clone(s.slot), twice, 0, goal)
	s.fixed = true
	s.ahead(f, goal)
	s.fixed = false
	s.ahead(f, goal)
	return true
}

// Ahead walks forward from a layout, each step the change that gains most a move,
// under the norm of the power 2^twice. seed 0 is the plain path, others are random.
// Rounding can promise a gain that is not there: a path ends where it did.
func (s *State) Ahead(f *Front, from []int32, twice int, seed uint64, goal Goal) {
	s.setOut(f, from, twice, seed, goal)
	s.ahead(f, goal)
}

// setOut begins a path from a layout; with seed 0 it is the plain one.
func (s *State) setOut(f *Front, from []int32, twice int, seed uint64, goal Goal) {
	s.Start(from)
	s.twice, s.over, s.rng = twice, goal.Time, nil
	if seed > 0 {
		s.rng = rand.NewPCG(seed, 0)
	}
	f.begin(s)
}

// ahead walks on from the placement at hand.
func (s *State) ahead(f *Front, goal Goal) {
	clear(s.isHot)
	s.onward = s.twice == 0 && f != nil
	for last := math.Inf(1); s.Time() > goal.Time && !goal.Stop(); last = s.now {
		c, ok := s.Forward(leastGain)
		if !ok || s.now >= last || s.moves+s.CostOf(c) > goal.Moves {
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
