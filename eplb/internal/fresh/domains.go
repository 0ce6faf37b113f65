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
	for i := range s.Slot {
		s.Slot[i] = -1
	}
	k := 0
	for g, end := 0, 0; g < len(u.Gpu); g = end {
		for end < len(u.Gpu) && u.Node[end] == u.Node[g] {
			end++
		}
		room := min(u.First[end]-u.First[g], len(order), 2*len(order)-k)
		// One slot of each GPU in turn, as far as they have any.
		for row := 0; room > 0; row++ {
			for q := g; q < end && room > 0; q++ {
				if row < u.Room(q) {
					s.Slot[u.First[q]+row] = order[k%len(order)]
					k++
					room--
				}
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
