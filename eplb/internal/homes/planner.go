package homes

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/exact"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/search"
)

// Planner plans layers whose groups of experts stay on their nodes. A level is
// an imbalance of the whole unit throughout: loads and speeds are scaled over
// all GPUs, not a node's. A GPU with more slots than different experts at home could
// fill may leave some empty, -1.
type Planner struct {
	S     *pack.Packer // of the whole unit
	per   int          // experts a group
	off   int          // replicas allowed outside their group's node
	few   int          // of these in the plan at hand
	must  int          // and those that must be: a node has too few slots for its groups
	spare bool         // slots may stay empty
	nodes []node
	homes *homes
	exact *exact.Search
	Home  []int32 // node of each group in the plan at hand
	// bestHome is the same of the best plan.
	bestHome []int32
	aim      float64 // the level aimed at
	work     int     // left of offNodeWork

	// Remembered for every set of groups on every kind of node.
	bound []float64
	state []uint32 // stamp of the question answered
	stamp uint32

	// The copies at hand.
	copies  []int16   // [experts][nodes] replicas of each expert on each node
	sum     []float64 // load of each node
	slots   []int     // filled on each node
	exports []int32   // copies sent away

	// What the bound looks at: a level and the pieces of the experts at it.
	level  float64
	pieces []offPiece

	s    search.State
	task search.Task
	cold search.Annealer
}

const (
	// deadPower is the speed of a node without a GPU in service: rather little.
	deadPower = 1e-9
	// mostUnlike is how many nodes others are compared with.
	mostUnlike = 64
)

func New(p *problem.Problem) *Planner {
	experts := p.Experts()
	lo := &Planner{per: experts / p.Groups, off: p.Off}
	atHome := lo.per * (p.Groups / p.Topology.Nodes)
	u := problem.NewUnit(&p.Topology, p.Replicas, min(experts, atHome+p.Off))
	lo.spare = u.Slots < p.Unit.Slots
	lo.nodes = make([]node, p.Topology.Nodes)
	lo.S = pack.New(u, experts)
	lo.exact = exact.New(lo.S)
	power, alike := make([]float64, len(lo.nodes)), make([]int, len(lo.nodes))
	g := 0
	for n := range lo.nodes {
		d := &lo.nodes[n]
		d.lo = g
		v := &problem.Unit{First: []int{0}, Equal: true}
		for ; g < len(u.Gpu) && u.Node[g] == n; g++ {
			power[n] += u.Speed[g]
			d.spare = max(d.spare, u.Room(g)-atHome)
			v.Slots += u.Room(g)
			v.First = append(v.First, v.Slots)
			v.Equal = v.Equal && u.Speed[g] == u.Speed[d.lo]
		}
		d.hi = g
		v.Gpu, v.Speed = u.Gpu[d.lo:g], u.Speed[d.lo:g]
		d.s = pack.New(v, max(v.Slots, atHome))
		d.exact = exact.New(d.s)
		lo.must += max(0, atHome-v.Slots)
		lo.spare = lo.spare || d.spare > 0
		alike[n] = n
		for m := range min(n, mostUnlike) {
			if a := lo.nodes[m].s.U; slices.Equal(a.Speed, v.Speed) && slices.Equal(a.First, v.First) {
				alike[n] = m
				break
			}
		}
	}
	for n := range power {
		power[n] = max(power[n], deadPower)
	}
	lo.homes = newHomes(p.Groups, power, alike)
	lo.Home, lo.bestHome = make([]int32, p.Groups), make([]int32, p.Groups)
	if p.Groups <= memoGroups {
		lo.bound = make([]float64, len(lo.nodes)<<p.Groups)
		lo.state = make([]uint32, len(lo.nodes)<<p.Groups)
	}
	lo.copies = make([]int16, experts*len(lo.nodes))
	lo.sum, lo.slots = make([]float64, len(lo.nodes)), make([]int, len(lo.nodes))
	lo.task = search.Task{Experts: experts, First: u.First, Speed: u.Speed, Share: []float64{1}, Home: make([]int32, experts), Node: u.Node, MostOff: lo.Off()}
	return lo
}

// Plan plans a layer, groups on their nodes; free is the solver without that
// constraint, which has the loads, and bound its bound. Of the best plan so far
// every step keeps the better. It returns a lower bound.
func (lo *Planner) Plan(free *pack.Packer, bound, tolerance float64, idle bool, stop func() bool) float64 {
	s := lo.S
	lo.takeLoads(free)
	lo.homes.setLoads(s.W)
	if lo.spare {
		bound = bounds.Even(free) // others may rely on every slot being filled
	}
	atHome := lo.placeHomes(bound, tolerance, stop)
	if lo.off == 0 {
		bound = max(bound, atHome)
	}
	if !idle {
		bound = lo.improve(bound, tolerance, stop)
	}
	lo.setHome(lo.bestHome)
	return bound
}

// improve improves the plan with up to lo.off replicas off their nodes and keeps the
// best. Where that took little work it does so with up to half as many, and so on, all
// from the plan at home: more of them give more to search, and the search less of it.
// It returns a lower bound.
func (lo *Planner) improve(bound, tolerance float64, stop func() bool) float64 {
	s := lo.S
	atHome, best := lo.layout(), lo.layout()
	lo.work = offNodeWork
	proved := bound // of lo.off, and so of fewer
	for lo.few = lo.off; ; lo.few /= 2 {
		lo.restore(atHome)
		lo.task.MostOff = max(lo.few, lo.must)
		low := bound
		if lo.few > 0 && len(s.W)*len(lo.nodes) <= offNodeCells {
			low = lo.leaveHomes(bound, tolerance, stop)
		}
		lo.setHome(lo.bestHome)
		lo.anneal(low*(1+tolerance), stop)
		if low = lo.exactly(low, stop); lo.few == lo.off {
			proved = low
		}
		if s.Best.Level < best.Level {
			best = lo.layout()
		}
		if lo.few <= lo.must || best.Level <= proved*(1+2*tolerance) || lo.work < offNodeWork-fewerWork || stop() {
			break
		}
	}
	lo.restore(best)
	return proved
}

// layout is the best plan so far, and its homes.
func (lo *Planner) layout() layout {
	b := &lo.S.Best
	return layout{pack.Layout{Slot: slices.Clone(b.Slot), Count: slices.Clone(b.Count), Level: b.Level}, slices.Clone(lo.bestHome)}
}

type layout struct {
	pack.Layout
	home []int32
}

// restore makes a plan the best so far.
func (lo *Planner) restore(x layout) {
	b := &lo.S.Best
	copy(b.Slot, x.Slot)
	copy(b.Count, x.Count)
	b.Level = x.Level
	copy(lo.bestHome, x.home)
}

// At plans a layer with its groups on given nodes, as many on each, and no replica
// elsewhere; free has the loads.
func (lo *Planner) At(free *pack.Packer, home []int32, tolerance float64, stop func() bool) {
	lo.takeLoads(free)
	lo.place(home, bounds.Even(free), tolerance, stop)
}

// place plans a layer with its groups on given nodes and only those replicas
// elsewhere that must be.
func (lo *Planner) place(home []int32, bound, tolerance float64, stop func() bool) {
	lo.setHome(home)
	if lo.must > 0 {
		lo.aim = bound * (1 + tolerance)
		lo.construct(math.Inf(1), math.Inf(1), lo.must)
		lo.placeNodes(true)
		return
	}
	for n := range lo.nodes {
		level := lo.solve(n, home, bound, tolerance, stop)
		if lo.bound != nil {
			mask := 0
			for g, m := range home {
				if int(m) == n {
					mask |= 1 << g
				}
			}
			i := lo.homes.alike[n]<<lo.homes.groups | mask
			lo.state[i], lo.bound[i] = lo.stamp, level
		}
		if level >= lo.S.Best.Level {
			return
		}
	}
	lo.gather()
}

// takeLoads takes the loads of a layer from the solver without groups.
func (lo *Planner) takeLoads(free *pack.Packer) {
	s := lo.S
	copy(s.W, free.W)
	copy(s.Order, free.Order)
	s.Best.Level = math.Inf(1)
}

// Into writes the best plan into the slots of the whole unit, -1 where it leaves
// them empty.
func (lo *Planner) Into(u *problem.Unit, slot []int32) {
	v := lo.S.U
	for g := range u.Gpu {
		to := slot[u.First[g]:u.First[g+1]]
		for i := copy(to, lo.S.Best.Slot[v.First[g]:v.First[g+1]]); i < len(to); i++ {
			to[i] = -1
		}
	}
}

// Off is how many replicas may be outside their group's node, or must be.
func (lo *Planner) Off() int { return max(lo.off, lo.must) }

// placeHomes plans a layer with as few replicas off their nodes as can be. Homes
// are chosen so that the largest bound of a node is least; where a node's GPUs are not
// packed to its bound, what was reached takes its place and homes are chosen anew.
// Without that 256 experts on 32 GPUs of 9 slots, 8 groups, by a power law of 1.2,
// stand .3% higher. It returns a bound for no replica off its node.
func (lo *Planner) placeHomes(floor, tolerance float64, stop func() bool) (bound float64) {
	h := lo.homes
	lo.stamp++
	bound = max(floor, h.pigeonhole())
	value, exact := h.least(bound, lo.nodeBound)
	if exact {
		bound = max(bound, value)
	}
	for lo.place(h.best, bound, tolerance, stop); lo.bound != nil && lo.must == 0 && !stop(); lo.place(h.best, bound, tolerance, stop) {
		if value, _ = h.least(bound, lo.nodeBound); value*(1+tolerance) >= lo.S.Best.Level {
			break
		}
	}
	return bound
}

// remember is the answer to the question of the stamp for a set of groups on node n.
func (lo *Planner) remember(n int, mask uint32, find func() float64) float64 {
	if lo.bound == nil {
		return find()
	}
	i := lo.homes.alike[n]<<lo.homes.groups | int(mask)
	if lo.state[i] != lo.stamp {
		lo.state[i], lo.bound[i] = lo.stamp, find()
	}
	return lo.bound[i]
}
