package search

import (
	"math"
)

// Lone counts the experts that are in one domain.
func (s *State) Lone() (n int) {
	for e := range s.count {
		if !s.apart(int32(e), -1, -1) {
			n++
		}
	}
	return n
}

// SpreadOut brings every expert to two domains and says whether it could. Every
// expert has a replica, and no slot is empty.
func (s *State) SpreadOut() bool {
	for e := range s.count {
		for !s.apart(int32(e), -1, -1) {
			if !s.reachOut(int32(e)) {
				return false
			}
		}
	}
	return true
}

// reachOut brings e, which is in one domain, to another: in place of a copy that
// can be done without there, else by an exchange. For that it takes a second
// slot at home first if need be. It says whether it could.
func (s *State) reachOut(e int32) bool {
	home := s.t.Domain[s.gpu[s.at[e][0]]]
	free := func(i int32) bool { return !s.holds(s.gpu[i], e) && s.mayDrop(i) }
	best := s.leastMissed(e, func(i int32) bool { return s.t.Domain[s.gpu[i]] != home && free(i) })
	if best < 0 && s.count[e] == 1 {
		if best = s.leastMissed(e, free); best < 0 {
			return false
		}
	}
	if best >= 0 {
		s.Apply(Change{best, -1, e})
		return true
	}
	x, top := Change{A: -1}, math.Inf(1)
	for _, i := range s.at[e] {
		h := s.gpu[i]
		for j, f := range s.slot {
			g := s.gpu[j]
			if s.t.Domain[g] == home || s.holds(h, f) || s.holds(g, e) || !s.apart(f, int32(j), home) {
				continue
			}
			c := Change{i, int32(j), -1}
			if v, _ := s.after(c, math.Inf(1)); v < top {
				x, top = c, v
			}
		}
	}
	if x.A < 0 {
		return false
	}
	s.Apply(x)
	return true
}
