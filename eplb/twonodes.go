package eplb

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/search"
	"github.com/moelb/moelb/placement"
)

// Every expert on two nodes at least, so that any one node may fail. A placement
// with that property exists where the nodes' slots, counting no more than there
// are experts for each, are twice the experts: deal the experts out in turn,
// twice over, one node after another.

// validateTwoNodes demands room for every expert on two nodes.
func validateTwoNodes(p *Problem, o *Options) error {
	if !o.TwoNodes {
		return nil
	}
	experts := p.Loads.Experts()
	alive := make([]int, p.Topology.Nodes)
	room := make([]int, p.Topology.Nodes)
	nodes := 0
	for g, n := range placement.EvenSlots(p.Replicas, p.Topology.GPUs) {
		if p.Topology.SpeedOf(g) > 0 {
			k := p.Topology.Node(g)
			if alive[k]++; alive[k] == 1 {
				nodes++
			}
			room[k] += n
		}
	}
	if nodes < 2 {
		return refuse.Errorf(placement.ErrFit, "two_nodes", "%d node in service: at least 2 are needed", nodes)
	}
	sum := 0
	for _, n := range room {
		sum += min(n, experts)
	}
	if sum >= 2*experts {
		return nil
	}
	each := 1
	fits := func() bool {
		sum := 0
		for _, n := range alive {
			sum += int(min(int64(n)*int64(each), int64(experts)))
		}
		return sum >= 2*experts
	}
	for !fits() {
		each++
	}
	return refuse.Errorf(placement.ErrFit, "two_nodes", "%d experts on two nodes each do not fit the %d slots in service: %d slots a GPU (num_replicas %d) would do", experts, sum, each, int64(each)*int64(p.Topology.GPUs))
}

// apart is what planning with every expert on two nodes needs beside the solver.
type apart struct {
	s     search.State
	task  search.Task
	slot  []int32
	looks int // what is left of the work on a layer
	rng   *rand.Rand
}

func newApart(u *unit, experts int) *apart {
	return &apart{
		slot: make([]int32, u.slots),
		task: search.Task{Experts: experts, First: u.first, Speed: u.speed, Domain: u.node, Share: []float64{1}},
	}
}

// deal starts from every expert on two nodes, the hottest first in turn, and
// fills the other slots with copies: on a random path, of random experts.
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
	if m.rng != nil {
		for i, f := range m.slot {
			if e := int32(m.rng.IntN(len(order))); f < 0 && m.s.Free(int32(i), e) {
				m.s.Apply(search.Change{A: int32(i), B: -1, E: e})
			}
		}
	}
	m.s.Mend()
}

// searchTwoNodes fills s.best with a placement that has every expert on two
// nodes, and returns a lower bound for such. The packings of the plain search,
// with counts of at least two, are brought to two nodes and then evened out by
// the steps of m, which cost nothing here. Cost: a few milliseconds for 288 slots.
func (s *solver) searchTwoNodes(m *apart, tolerance float64, stop func() bool) (bound float64) {
	gpus := len(s.u.gpu)
	s.least = 2
	m.task.Load = s.w
	m.s.Set(&m.task)
	m.rng = nil
	bound = s.speedBound(s.replicaBound())
	goal := bound * (1 + tolerance)
	var starts [][]int32
	try := func() {
		m.improve(s, goal, stop)
	}
	for i := -1; i < len(capLimits) && (len(starts) == 0 || !(s.best.level <= goal || m.looks <= 0 || stop())); i++ {
		if i < 0 && !s.adams(s.u.slots, gpus, nil) {
			continue
		}
		if i >= 0 && !s.capped(s.u.slots, gpus, capLimits[i]*bound) {
			continue
		}
		if !s.pack() {
			continue
		}
		s.swap(goal)
		if m.s.Start(s.slot); int64(m.s.Lone())*int64(s.u.slots) <= spreadOutWork && m.s.SpreadOut() {
			starts = append(starts, slices.Clone(m.s.Slots()))
			try()
		}
	}
	if s.best.level > goal && (len(starts) == 0 || (m.looks > 0 && !stop())) {
		m.deal(s.u, s.order)
		starts = append(starts, slices.Clone(m.s.Slots()))
		try()
	}
	for i := 1; i <= spreadPaths && m.looks > 0 && s.best.level > goal && !stop(); i++ {
		m.rng = rand.New(rand.NewPCG(uint64(i), 0))
		if i%2 == 0 {
			m.s.Start(starts[i/2%len(starts)])
		} else {
			order := slices.Clone(s.order)
			m.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			m.deal(s.u, order)
		}
		try()
	}
	m.rng = nil
	return bound
}

// planTwoNodes plans every layer with its experts on two nodes each.
func planTwoNodes(ctx context.Context, p *Problem, o *Options, u *unit, r *Result) {
	inParallel(o.Workers, len(p.Loads), func() func(l int) {
		f := newFresh(p, o, u)
		return func(l int) {
			f.setLayer(ctx, l, r)
			f.make()
			if o.Dispatch == Split {
				f.level, f.bound = f.s.splitOver(p, l, f.slot, f.level)
			}
			if f.s.idle {
				f.level, f.bound = 1, 1
			}
			writeRow(u, f.slot, r.Placement.PhysicalToLogical[l])
			r.Layers[l] = newLayer(f.level, f.bound, ctx.Err() != nil)
		}
	})
}

const (
	// spreadOutWork bounds the slots looked at to bring a packing to two nodes.
	spreadOutWork = 1 << 27
	// spreadPaths is how many random paths are tried at most.
	spreadPaths = 64
	// spreadWork bounds the slots and pairs of slots that the steps of a layer
	// look at, beyond the first path.
	spreadWork = 1 << 21
)

// improve evens out the placement of m towards the goal and keeps the best.
func (m *apart) improve(s *solver, goal float64, stop func() bool) {
	l := m.s.Time()
	// A target that is nearer shows other steps.
	for _, share := range [...]float64{0, .5, .25, .75} {
		l = m.s.Descend(goal+float64(share*(l-goal)), m.rng, func() bool {
			m.looks -= s.u.slots * (2 + s.u.slots/len(s.u.gpu))
			return m.looks < -16*spreadWork || stop()
		})
		if l < s.best.level {
			s.best.level = l
			copy(s.best.slot, m.s.Slots())
			copy(s.best.count, m.s.Counts())
		}
		if l <= goal || m.looks <= 0 || stop() {
			return
		}
	}
}
