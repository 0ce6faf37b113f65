package eplb

import "github.com/moelb/moelb/eplb/internal/search"

// Every expert on two nodes at least, so that any one node may fail. A placement
// with that property exists where the nodes' slots, counting no more than there
// are experts for each, are twice the experts: deal the experts out in turn,
// twice over, one node after another.

// apart is what planning with every expert on two nodes needs beside the solver.
type apart struct {
	s    search.State
	task search.Task
	slot []int32
}

func newApart(u *unit, experts int) *apart {
	return &apart{
		slot: make([]int32, u.slots),
		task: search.Task{Experts: experts, First: u.first, Speed: u.speed, Domain: u.node, Share: []float64{1}},
	}
}

// deal starts from every expert on two nodes, the hottest first in turn, and
// fills the other slots with copies.
func (m *apart) deal(u *unit, order []int32) {
	for s := range m.slot {
		m.slot[s] = -1
	}
	k, left := 0, 2*len(order)
	for g := 0; g < len(u.gpu); {
		end := g
		for end < len(u.gpu) && u.node[end] == u.node[g] {
			end++
		}
		room := min(u.first[end]-u.first[g], len(order), left)
		left -= room
		// One slot of each GPU in turn, as far as they have any.
		for row := 0; room > 0; row++ {
			for q := g; q < end && room > 0; q++ {
				if row < u.room(q) {
					m.slot[u.first[q]+row] = order[k%len(order)]
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

// searchTwoNodes fills s.best with a placement that has every expert on two
// nodes, and returns a lower bound for such. The packings of the plain search,
// with counts of at least two, are brought to two nodes and then evened out by
// the search.
func (s *scratch) searchTwoNodes(m *apart, tolerance float64, stop func() bool) (bound float64) {
	gpus := len(s.u.gpu)
	s.least = 2
	m.task.Load = s.w
	m.s.Set(&m.task)
	bound = speedBound(s.solver, replicaBound(s.solver))
	goal := bound * (1 + tolerance)
	// What is nearly there is left to annealing.
	done := func() bool { return s.best.level <= goal+nearly || stop() }
	none := true
	for i := -1; i < len(capLimits) && (none || !done()); i++ {
		if i < 0 && !s.adams(s.u.slots, gpus, nil) || i >= 0 && !s.capped(s.u.slots, gpus, capLimits[i]*bound) || !s.pack() {
			continue
		}
		s.swap(goal)
		if m.s.Start(s.slot); int64(m.s.Lone())*int64(s.u.slots) <= spreadOutWork && m.s.SpreadOut() {
			none = false
			m.improve(s.solver, goal, stop)
		}
	}
	if none || !done() {
		m.deal(s.u, s.order)
		m.improve(s.solver, goal, stop)
	}
	s.exact.apart = true
	if bound = s.exact.improve(bound, s.thrift, stop); s.best.level > goal {
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
func (m *apart) improve(s *solver, goal float64, stop func() bool) {
	from := m.s.Work()
	m.s.Descend(goal, func() bool { return m.s.Work() > from+apartWork || stop() })
	m.keep(s)
}

// keep puts the placement of m aside if it is the best so far.
func (m *apart) keep(s *solver) {
	if l := m.s.Time(); l < s.best.level {
		s.best.level = l
		copy(s.best.slot, m.s.Slots())
		copy(s.best.count, m.s.Counts())
	}
}
