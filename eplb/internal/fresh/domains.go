package fresh

import (
	"github.com/moelb/moelb/eplb/internal/pack"
)

// Every expert on two nodes at least, so that any one node may fail. A placement
// with that property exists where the nodes' slots, counting no more than there
// are experts for each, are twice the experts: deal the experts out in turn,
// twice over, one node after another.

// deal starts from every expert on two nodes, the hottest first in turn, and
// fills the other slots with copies.
func (s *Anywhere) deal() {
	u, order := s.U, s.Order
	dealt, here := 0, 0
	for g := range u.Gpu {
		if g > 0 && u.Node[g] != u.Node[g-1] {
			here = 0
		}
		for i := u.First[g]; i < u.First[g+1]; i++ {
			if s.Slot[i] = -1; here < len(order) && dealt < 2*len(order) {
				s.Slot[i] = order[dealt%len(order)]
				dealt++
				here++
			}
		}
	}
	s.at.Start(s.Slot)
	s.at.Mend()
}

// inTwo fills s.Best with a placement that has every expert on two nodes. The packings
// of the plain search, with counts of at least two, are brought to two nodes and then
// evened out by the search; what is nearly there is left to annealing.
func (s *Anywhere) inTwo(bound, goal float64, stop func() bool) {
	s.at.Set(&s.task)
	none := true
	more := func() bool { return none || s.Best.Level > goal+nearly && !stop() }
	for i := -1; i < len(pack.CapLimits) && more(); i++ {
		if !s.CountBy(i, bound) {
			continue
		}
		s.Pack()
		s.Swap(goal)
		if s.at.Start(s.Slot); int64(s.at.Lone())*int64(s.U.Slots) <= spreadOutWork && s.at.SpreadOut() {
			none = false
			s.improve(goal, stop)
		}
	}
	if more() {
		s.deal()
		s.improve(goal, stop)
	}
}

const (
	// spreadOutWork bounds the slots looked at to bring a packing to two nodes.
	spreadOutWork = 1 << 27
	// nearly is how far above its goal a plan from scratch needs no other start.
	nearly = 1e-4
	// apartWork bounds the descent of one start, in changes looked at.
	apartWork = 1 << 21
)

// improve evens out what the search stands at towards the goal and keeps the best.
func (s *Anywhere) improve(goal float64, stop func() bool) {
	from := s.at.Work()
	s.at.Descend(goal, func() bool { return s.at.Work() > from+apartWork || stop() })
	s.keepState(&s.at)
}
