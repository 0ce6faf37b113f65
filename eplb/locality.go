package eplb

import (
	"math"
	"slices"
)

// locality plans layers whose groups of experts stay on their nodes. A level is
// an imbalance of the whole unit throughout: loads and speeds are scaled over
// all GPUs, not a node's. A GPU with more slots than different experts could
// fill has pseudo-experts without load, which stand for empty slots.
type locality struct {
	s       *solver // of the whole unit
	experts int     // without pseudo-experts
	per     int     // experts a group
	off     int     // replicas allowed outside their group's node
	nodes   []nodeSolver
	homes   *homes
	home    []int32 // node of each group in the plan at hand
	exact   *exact

	// Remembered for every set of groups on every kind of node.
	bound []float64
	state []uint32 // stamp of the question answered
	stamp uint32

	offNode
}

func newLocality(p *checked) *locality {
	experts := p.experts()
	lo := &locality{experts: experts, per: experts / p.groups, off: p.off}
	atHome := lo.per * (p.groups / p.topology.Nodes)
	u := newUnit(&p.topology, p.replicas, min(experts, atHome+p.off), nil)
	lo.nodes = make([]nodeSolver, p.topology.Nodes)
	all := experts
	g := 0
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		ns.lo = g
		pseudo := 0
		for ; g < len(u.gpu) && u.node[g] == n; g++ {
			ns.power += u.speed[g]
			pseudo = max(pseudo, u.room(g)-atHome)
		}
		ns.hi = g
		for range pseudo {
			ns.pseudo = append(ns.pseudo, int32(all))
			all++
		}
	}
	lo.s = newSolver(u, all)
	lo.exact = newExact(lo.s)
	alike := make([]int, len(lo.nodes))
	power := make([]float64, len(lo.nodes))
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		v := &unit{gpu: u.gpu[ns.lo:ns.hi], speed: u.speed[ns.lo:ns.hi], first: []int{0}, equal: true}
		for g := ns.lo; g < ns.hi; g++ {
			v.slots += u.room(g)
			v.first = append(v.first, v.slots)
			v.equal = v.equal && u.speed[g] == u.speed[ns.lo]
		}
		ns.s = newSolver(v, v.slots)
		ns.ids = make([]int32, 0, v.slots)
		power[n] = ns.power
		alike[n] = n
		for m := range min(n, branchGroups) {
			if a := lo.nodes[m].s.u; slices.Equal(a.speed, v.speed) && slices.Equal(a.first, v.first) {
				alike[n] = m
				break
			}
		}
	}
	lo.homes = newHomes(p.groups, power, alike)
	lo.home = make([]int32, p.groups)
	lo.bestHome = make([]int32, p.groups)
	if p.groups <= memoGroups {
		lo.bound = make([]float64, len(lo.nodes)<<p.groups)
		lo.state = make([]uint32, len(lo.nodes)<<p.groups)
	}
	lo.offNode.init(lo)
	for n := range lo.nodes {
		for _, e := range lo.nodes[n].pseudo {
			lo.homeAt[e] = int32(n)
		}
	}
	return lo
}

// plan plans a layer, groups on their nodes; free is the solver without that
// constraint, which has the loads, and bound its bound. Of the best plan so far
// every step keeps the better. It returns a lower bound.
func (lo *locality) plan(free *solver, bound, tolerance float64, idle bool, stop func() bool) float64 {
	s := lo.s
	copy(s.w, free.w)
	copy(s.order, free.order)
	for e := lo.experts; e < len(s.w); e++ {
		s.w[e], s.order[e] = 0, int32(e)
	}
	s.best.level = math.Inf(1)
	lo.homes.setLoads(s.w[:lo.experts])
	if len(s.w) > lo.experts {
		bound = replicaBound(free) // others may rely on every slot being filled
	}
	atHome := lo.placeHomes(bound, tolerance, stop)
	if lo.copies != nil && !idle {
		bound = lo.leaveHomes(bound, tolerance, stop)
	} else if lo.off == 0 {
		bound = max(bound, atHome)
	}
	if !idle {
		bound = lo.exactly(bound, stop)
	}
	return bound
}

// into writes the best plan into the slots of the whole unit, -1 where it leaves
// them empty.
func (lo *locality) into(u *unit, slot []int32) {
	v := lo.s.u
	for g := range u.gpu {
		to := slot[u.first[g]:u.first[g+1]]
		for i := range to {
			if to[i] = -1; i < v.room(g) {
				if e := lo.s.best.slot[v.first[g]+i]; int(e) < lo.experts {
					to[i] = e
				}
			}
		}
	}
}

// offHome is how many replicas of the best plan are outside their group's node.
func (lo *locality) offHome() (n int) {
	u := lo.s.u
	for g := range u.gpu {
		for _, e := range lo.s.best.slot[u.first[g]:u.first[g+1]] {
			if int(e) < lo.experts && int(lo.home[int(e)/lo.per]) != u.node[g] {
				n++
			}
		}
	}
	return n
}

// placeHomes plans a layer with as few replicas off their nodes as can be. Homes
// are chosen so that the largest bound of a node is least. It returns a bound for
// no replica off its node.
func (lo *locality) placeHomes(floor, tolerance float64, stop func() bool) (bound float64) {
	h := lo.homes
	lo.stamp++
	floor = max(floor, h.pigeonhole())
	bound, exact := h.least(floor, lo.nodeBound)
	if !exact {
		bound = floor
	}
	bound = max(bound, floor)
	lo.setHome(h.best)
	lo.list(-1, lo.home)
	for n := range lo.nodes {
		lo.nodes[n].solve(bound, tolerance, stop)
	}
	lo.gather()
	return bound
}

// memo is where the bound of a set of groups on a node is remembered.
func (lo *locality) memo(n int, mask uint32) int {
	return lo.homes.alike[n]<<lo.homes.groups | int(mask)
}

// nodeBound is a lower bound of the level of node n with the groups that the
// branch at hand gives it: its share of the load, and the least that its slots
// allow its hottest experts.
func (lo *locality) nodeBound(n int, mask uint32) float64 {
	if lo.bound == nil {
		return lo.homes.share(n, lo.homes.sum[n])
	}
	i := lo.memo(n, mask)
	if lo.state[i] != lo.stamp {
		lo.state[i] = lo.stamp
		lo.list(n, lo.homes.at)
		lo.bound[i] = max(lo.homes.share(n, lo.homes.sum[n]), lo.nodes[n].replicaLevel())
	}
	return lo.bound[i]
}

// list lists the experts of every node (of node only, unless -1) under home,
// each on its home node. Where a node has too few slots, its hottest go to the
// nodes with the most room for them.
func (lo *locality) list(only int, home []int32) {
	s := lo.s
	for n := range lo.nodes {
		if only < 0 || n == only {
			lo.nodes[n].ids, lo.nodes[n].guests = lo.nodes[n].ids[:0], 0
		}
	}
	atHome := lo.experts / len(lo.nodes)
	over := lo.spare[:0]
	for _, e := range s.order {
		if int(e) >= lo.experts {
			continue
		}
		n := int(home[int(e)/lo.per])
		if only >= 0 && n != only {
			continue
		}
		ns := &lo.nodes[n]
		if out := atHome - ns.s.u.slots; out > 0 && lo.skipped[n] < out {
			lo.skipped[n]++
			over = append(over, e)
			continue
		}
		ns.ids = append(ns.ids, e)
	}
	clear(lo.skipped)
	for n := range lo.nodes {
		lo.nodes[n].locals = len(lo.nodes[n].ids)
	}
	if only < 0 {
		for _, e := range over {
			best := -1
			for n := range lo.nodes {
				room := lo.nodes[n].s.u.slots - len(lo.nodes[n].ids)
				if room > 0 && (best < 0 || room > lo.nodes[best].s.u.slots-len(lo.nodes[best].ids)) {
					best = n
				}
			}
			lo.nodes[best].ids = append(lo.nodes[best].ids, e)
			lo.nodes[best].guests++
		}
		lo.spare = over[:0]
	}
	for n := range lo.nodes {
		if only < 0 || n == only {
			ns := &lo.nodes[n]
			ns.ids = append(ns.ids, ns.pseudo[:min(len(ns.pseudo), ns.s.u.slots-len(ns.ids))]...)
			ns.take(s.w)
		}
	}
}

// gather puts the best placements of the nodes together and keeps the whole.
func (lo *locality) gather() {
	s := lo.s
	clear(s.count)
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		to := s.slot[s.u.first[ns.lo]:s.u.first[ns.hi]]
		for i, e := range ns.s.best.slot {
			to[i] = ns.ids[e]
			s.count[ns.ids[e]]++
		}
	}
	for e, w := range s.w {
		s.size[e] = w / float64(max(s.count[e], 1))
	}
	lo.keepWhole()
}
