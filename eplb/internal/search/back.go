package search

import "math"

// Back finds the move that is missed least when it is taken back: an expert that
// was on a GPU comes there again in place of one that was not. ok is false if
// nothing can be taken back.
func (s *State) Back() (c Change, ok bool) {
	s.now = s.weigh()
	s.work += len(s.slot)
	least := math.Inf(1)
	c.A = -1
	try := func(x Change) {
		if !s.May(x) {
			return
		}
		cost := s.CostOf(x)
		if s.work++; cost >= 0 {
			return
		}
		s.work += len(s.at[s.slot[x.A]]) * s.n
		v, ok := s.after(x, s.now+float64(least*float64(-cost)))
		if v = (v - s.now) / float64(-cost); ok && v < least {
			c, least = x, v
		}
	}
	for i, e := range s.slot {
		g := s.gpu[i]
		if e < 0 || s.had(g, e) {
			continue
		}
		s.missing(g, func(x int32) {
			try(Change{int32(i), -1, x})
			for _, j := range s.at[x] {
				try(Change{int32(i), j, -1})
			}
		})
	}
	return c, c.A >= 0
}

// Retreat takes moves back from a layout, each time the one that is missed least.
func (s *State) Retreat(f *Front, from []int32, twice int, goal Goal) {
	s.setOut(f, from, twice, goal)
	for s.moves > 0 && !goal.Stop() {
		c, ok := s.Back()
		if !ok {
			break
		}
		f.do(s, c)
	}
}
