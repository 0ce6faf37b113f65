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
	s.twice = 4
	s.weigh()
	home := s.t.Domain[s.gpu[s.at[e][0]]]
	best, second, top, topSecond := int32(-1), int32(-1), math.Inf(1), math.Inf(1)
	for i := range s.slot {
		j := int32(i)
		if s.holds(s.gpu[j], e) || !s.mayDrop(j) {
			continue
		}
		v, _ := s.after(Change{j, -1, e}, math.Inf(1))
		if s.t.Domain[s.gpu[j]] != home {
			if v < top {
				best, top = j, v
			}
		} else if v < topSecond {
			second, topSecond = j, v
		}
	}
	if best >= 0 {
		s.put(best, e)
		return true
	}
	if s.count[e] == 1 {
		if second >= 0 {
			s.put(second, e)
		}
		return second >= 0
	}
	x := Change{A: -1}
	for _, i := range s.at[e] {
		h := s.gpu[i]
		for j, f := range s.slot {
			g := s.gpu[j]
			if s.t.Domain[g] == home || s.holds(h, f) || s.holds(g, e) || !s.apart(f, int32(j), home) {
				continue
			}
			c := Change{i, int32(j), -1}
			if v, _ := s.after(c, math.Inf(1)); x.A < 0 || v < top {
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
