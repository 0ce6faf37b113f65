package eplb

import (
	"context"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
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

// spread says whether e is on two nodes without slot s (-1 = none leaves) and
// with one on the given node (-1 = none comes). Cost: O(replicas of e).
func (m *mover) spread(e, s int32, node int) bool {
	for _, q := range m.at[e] {
		if q == s {
			continue
		}
		n := m.u.node[m.gpu[q]]
		if node < 0 {
			node = n
		} else if n != node {
			return true
		}
	}
	return false
}

// mayDrop says whether the expert of slot s can do without it.
func (m *mover) mayDrop(s int32) bool {
	e := m.slot[s]
	return m.count[e] > 1 && (!m.twoNodes || m.spread(e, s, -1))
}

// mayExchange says whether locality lets two slots exchange their experts and
// whether either stays on two nodes if it must.
func (m *mover) mayExchange(i, j int32) bool {
	a, b := m.u.node[m.gpu[i]], m.u.node[m.gpu[j]]
	if m.home != nil && a != b {
		off := m.off + m.offBy(i, -1) + m.offBy(j, -1)
		if m.home[m.slot[i]] != int32(b) {
			off++
		}
		if m.home[m.slot[j]] != int32(a) {
			off++
		}
		return off <= m.mostOff
	}
	if !m.twoNodes {
		return true
	}
	return a == b || (m.spread(m.slot[i], i, b) && m.spread(m.slot[j], j, a))
}

// spreadOut brings every expert to two nodes and says whether it could. Every
// expert has a replica, and no slot is empty.
func (m *mover) spreadOut() bool {
	for e := range m.w {
		for !m.spread(int32(e), -1, -1) {
			if !m.reachOut(int32(e)) {
				return false
			}
		}
	}
	return true
}

// lone counts the experts that are on one node.
func (m *mover) lone() (n int) {
	for e := range m.w {
		if !m.spread(int32(e), -1, -1) {
			n++
		}
	}
	return n
}

// reachOut brings e, which is on one node, to another: in place of a copy that
// can be done without there, else by an exchange. For that it takes a second
// slot at home first if need be. It says whether it could.
func (m *mover) reachOut(e int32) bool {
	u := m.u
	home := u.node[m.gpu[m.at[e][0]]]
	best, second, top, topSecond := -1, -1, math.Inf(1), math.Inf(1)
	for s := range m.slot {
		if m.holds(int(m.gpu[s]), e) || !m.mayDrop(int32(s)) {
			continue
		}
		if l := m.fillLevel(s, e); u.node[m.gpu[s]] != home {
			if l < top {
				best, top = s, l
			}
		} else if l < topSecond {
			second, topSecond = s, l
		}
	}
	if best >= 0 {
		m.fill(best, e)
		return true
	}
	if m.count[e] == 1 {
		if second < 0 {
			return false
		}
		m.fill(second, e)
		return true
	}
	var x change
	x.a = -1
	for _, i := range m.at[e] {
		h := int(m.gpu[i])
		for j, f := range m.slot {
			g := int(m.gpu[j])
			if u.node[g] == home || m.holds(h, f) || !m.spread(f, int32(j), home) {
				continue
			}
			d := m.size[e] - m.size[f]
			if l := max((m.load[h]-d)/u.speed[h], (m.load[g]+d)/u.speed[g]); x.a < 0 || l < top {
				top = l
				x = change{a: i, b: int32(j), cost: m.cost(h, e, f) + m.cost(g, f, e)}
			}
		}
	}
	if x.a < 0 {
		return false
	}
	m.apply(x)
	return true
}

// deal starts from every expert on two nodes, the hottest first in turn, and
// fills the other slots with copies: on a random path, of random experts.
func (m *mover) deal(order []int32) {
	u := m.u
	for s := range m.start {
		m.start[s] = -1
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
					m.start[u.first[q]+row] = order[k%len(order)]
					k++
					room--
				}
			}
		}
		g = end
	}
	m.reset()
	if m.rng != nil {
		for s, f := range m.slot {
			e := int32(m.rng.IntN(len(order)))
			if f < 0 && !m.holds(int(m.gpu[s]), e) {
				m.fill(s, e)
			}
		}
	}
	m.mend()
}

// searchTwoNodes fills s.best with a placement that has every expert on two
// nodes, and returns a lower bound for such. The packings of the plain search,
// with counts of at least two, are brought to two nodes and then evened out by
// the steps of m, which cost nothing here. Cost: a few milliseconds for 288 slots.
func (s *solver) searchTwoNodes(m *mover, tolerance float64, stop func() bool) (bound float64) {
	gpus := len(s.u.gpu)
	s.least = 2
	m.w, m.start, m.twoNodes = s.w, m.prev, true
	for i := range m.had {
		m.had[i] = math.MaxUint64
	}
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
		copy(m.start, s.slot)
		if m.reset(); int64(m.lone())*int64(s.u.slots) <= spreadOutWork && m.spreadOut() {
			starts = append(starts, slices.Clone(m.slot))
			try()
		}
	}
	if s.best.level > goal && (len(starts) == 0 || (m.looks > 0 && !stop())) {
		m.deal(s.order)
		starts = append(starts, slices.Clone(m.slot))
		try()
	}
	for i := 1; i <= spreadPaths && m.looks > 0 && s.best.level > goal && !stop(); i++ {
		m.seed(i)
		if i%2 == 0 {
			copy(m.start, starts[i/2%len(starts)])
			m.reset()
		} else {
			order := slices.Clone(s.order)
			m.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			m.deal(order)
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
				f.level, f.bound = f.s.splitOf(p.Loads[l], f.slot, f.level)
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
func (m *mover) improve(s *solver, goal float64, stop func() bool) {
	l := m.level()
	// A target that is nearer shows other steps.
	for _, share := range [...]float64{0, .5, .25, .75} {
		m.T = goal + float64(share*(l-goal))
		for {
			c, ok := m.step()
			if !ok || m.looks < -16*spreadWork || stop() {
				break
			}
			m.apply(c)
			m.looks -= m.u.slots * (2 + m.u.slots/len(m.u.gpu))
		}
		m.reload()
		l = m.level()
		if l < s.best.level {
			s.best.level = l
			copy(s.best.slot, m.slot)
			copy(s.best.count, m.count)
		}
		if l <= goal || m.looks <= 0 || stop() {
			return
		}
	}
}
