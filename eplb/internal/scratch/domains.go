package scratch

import (
	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/search"
)

// Every expert on two nodes at least, so that any one node may fail. A placement
// with that property exists where the nodes' slots, counting no more than there
// are experts for each, are twice the experts: deal the experts out in turn,
// twice over, one node after another.

// Apart is what planning with every expert on two nodes needs beside the solver.
type Apart struct {
	s    search.State
	task search.Task
	slot []int32
}

func NewApart(u *problem.Unit, experts int) *Apart {
	return &Apart{
		slot: make([]int32, u.Slots),
		task: search.Task{Experts: experts, First: u.First, Speed: u.Speed, Domain: u.Node, Share: []float64{1}},
	}
}

// deal starts from every expert on two nodes, the hottest first in turn, and
// fills the other slots with copies.
func (m *Apart) deal(u *problem.Unit, order []int32) {
	for s := range m.slot {
		m.slot[s] = -1
	}
	k, left := 0, 2*len(order)
	for g := 0; g < len(u.Gpu); {
		end := g
		for end < len(u.Gpu) && u.Node[end] == u.Node[g] {
			end++
		}
		room := min(u.First[end]-u.First[g], len(order), left)
		left -= room
		// One slot of each GPU in turn, as far as they have any.
		for row := 0; room > 0; row++ {
			for q := g; q < end && room > 0; q++ {
				if row < u.Room(q) {
					m.slot[u.First[q]+row] = order[k%len(order)]
					k++
					room--
				}
			}
		}
		g = end
	}
	m.s.Start(m.slot)
	m.s.Mend()
}

// SearchTwoNodes fills s.best with a placement that has every expert on two
// nodes, and returns a lower bound for such. The packings of the plain search,
// with counts of at least two, are brought to two nodes and then evened out by
// the search.
func (s *Planner) SearchTwoNodes(m *Apart, tolerance float64, stop func() bool) (bound float64) {
	s.Least = 2
	m.task.Load = s.W
	m.s.Set(&m.task)
	bound = bounds.Speeds(s.Packer, bounds.Replicas(s.Packer))
	goal := bound * (1 + tolerance)
	// What is nearly there is left to annealing.
	done := func() bool { return s.Best.Level <= goal+nearly || stop() }
	none := true
	for i := -1; i < len(pack.CapLimits) && (none || !done()); i++ {
		if !s.CountBy(i, bound) || !s.Pack() {
			continue
		}
		s.Swap(goal)
		if m.s.Start(s.Slot); int64(m.s.Lone())*int64(s.U.Slots) <= spreadOutWork && m.s.SpreadOut() {
			none = false
			m.improve(s.Packer, goal, stop)
		}
	}
	if none || !done() {
		m.deal(s.U, s.Order)
		m.improve(s.Packer, goal, stop)
	}
	s.exact.Apart = true
	if bound = s.exact.Improve(bound, s.thrift, stop); s.Best.Level > goal {
		s.annealAs(&m.s, goal, stop)
	}
	return bound
}

const (
	// spreadOutWork bounds the slots looked at to bring a packing to two nodes.
	spreadOutWork = 1 << 27
	// nearly is how far above its goal a plan from scratch needs no other start.
	nearly = 1e-4
	// apartWork bounds the descent of one start, in changes looked at.
	apartWork = 1 << 21
)

// improve evens out the placement of m towards the goal and keeps the best.
func (m *Apart) improve(s *pack.Packer, goal float64, stop func() bool) {
	from := m.s.Work()
	m.s.Descend(goal, func() bool { return m.s.Work() > from+apartWork || stop() })
	m.keep(s)
}

// keep puts the placement of m aside if it is the best so far.
func (m *Apart) keep(s *pack.Packer) {
	if l := m.s.Time(); l < s.Best.Level {
		s.Best.Level = l
		copy(s.Best.Slot, m.s.Slots())
		copy(s.Best.Count, m.s.Counts())
	}
}
