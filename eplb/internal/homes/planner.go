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
	p     *problem.Problem
	per   int // experts a group
	must  int // replicas that have no slot on their group's node
	nodes []node
	homes *homes
	exact *exact.Search
	known map[int]float64 // the answer for sets of groups on kinds of nodes
	aim   float64         // the level aimed at
	work  int             // left of offNodeWork

	// The plan at hand: its task has the homes.
	task   search.Task
	s      search.State
	cold   search.Annealer
	copies []int16   // [experts][nodes] replicas of each expert on each node
	sum    []float64 // load of each node
	slots  []int     // filled on each node
}

const (
	// deadPower is the speed of a node without a GPU in service: rather little.
	deadPower = 1e-9
	// mostUnlike is how many nodes others are compared with.
	mostUnlike = 64
	// memoGroups is up to how many groups what is found for a set of them is remembered.
	memoGroups = 12
)

func New(p *problem.Problem) *Planner {
	experts, u, nodes := p.Experts(), p.Unit, p.Topology.Nodes
	lo := &Planner{S: pack.New(u, experts), p: p, per: experts / p.Groups, nodes: make([]node, nodes)}
	lo.exact = exact.New(lo.S)
	lo.copies, lo.sum, lo.slots = make([]int16, experts*nodes), make([]float64, nodes), make([]int, nodes)
	power, alike := make([]float64, nodes), make([]int, nodes)
	atHome, g := experts/nodes, 0
	for n := range lo.nodes {
		d, from := &lo.nodes[n], g
		d.first = u.First[g]
		v := &problem.Unit{First: []int{0}, Equal: true}
		for ; g < len(u.Gpu) && u.Node[g] == n; g++ {
			power[n] += u.Speed[g]
			d.spare = max(d.spare, u.Room(g)-atHome)
			v.Slots += u.Room(g)
			v.First = append(v.First, v.Slots)
			v.Equal = v.Equal && u.Speed[g] == u.Speed[from]
		}
		v.Gpu, v.Speed = u.Gpu[from:g], u.Speed[from:g]
		d.s = pack.New(v, max(v.Slots, atHome))
		d.exact = exact.New(d.s)
		lo.must += max(0, atHome-v.Slots)
		lo.exact.Spare = append(lo.exact.Spare, d.spare)
		lo.exact.Empty += d.spare * d.gpus()
		alike[n] = slices.IndexFunc(lo.nodes[:min(n, mostUnlike)], func(a node) bool {
			return slices.Equal(a.s.U.Speed, v.Speed) && slices.Equal(a.s.U.First, v.First)
		})
		if alike[n] < 0 {
			alike[n] = n
		}
		power[n] = max(power[n], deadPower)
	}
	lo.homes = newHomes(p.Groups, power, alike)
	if p.Groups <= memoGroups {
		lo.known = map[int]float64{}
	}
	lo.task = search.Task{Experts: experts, First: u.First, Speed: u.Speed, Share: []float64{1}, Load: lo.S.W, Home: make([]int32, experts), Node: u.Node}
	lo.exact.Home = lo.task.Home
	return lo
}

// Plan plans a layer, groups on their nodes; bound is that without this constraint. Of
// the best plan so far every step keeps the better. It returns a lower bound.
func (lo *Planner) Plan(loads []float64, bound, tolerance float64, stop func() bool) float64 {
	lo.S.SetLoads(loads)
	lo.homes.setLoads(lo.S.W)
	if lo.exact.Empty > 0 {
		bound = bounds.Even(lo.S) // others may rely on every slot being filled
	}
	if atHome := lo.placeHomes(bound, tolerance, stop); lo.p.Off == 0 {
		bound = atHome
	}
	if !lo.S.Idle {
		bound = lo.improve(bound, tolerance, stop)
	}
	return bound
}

// At plans a layer with its groups on given nodes, as many on each, and no replica
// elsewhere.
func (lo *Planner) At(loads []float64, home []int32, tolerance float64, stop func() bool) {
	lo.S.SetLoads(loads)
	lo.place(home, bounds.Even(lo.S), tolerance, stop)
}

// placeHomes plans a layer with as few replicas off their nodes as can be. Homes
// are chosen so that the largest bound of a node is least; where a node's GPUs are not
// packed to its bound, what was reached takes its place and homes are chosen anew.
// Without that 256 experts on 32 GPUs of 9 slots, 8 groups, by a power law of 1.2,
// stand .3% higher. It returns a bound for no replica off its node.
func (lo *Planner) placeHomes(floor, tolerance float64, stop func() bool) (bound float64) {
	h := lo.homes
	clear(lo.known)
	bound = max(floor, h.pigeonhole())
	value, exact := h.least(bound, lo.nodeBound)
	if exact {
		bound = max(bound, value)
	}
	for {
		lo.place(h.best, bound, tolerance, stop)
		if lo.known == nil || lo.must > 0 || stop() {
			return bound
		}
		if value, _ = h.least(bound, lo.nodeBound); value*(1+tolerance) >= lo.S.Best.Level {
			return bound
		}
	}
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
		if lo.known != nil {
			lo.known[lo.key(n, home)] = level
		}
		if level >= lo.S.Best.Level {
			return
		}
	}
	lo.gather()
}

// setHome makes home the homes at hand.
func (lo *Planner) setHome(home []int32) {
	for e := range lo.task.Home {
		lo.task.Home[e] = home[e/lo.per]
	}
}

// key stands for the groups that home brings to node n, of its kind.
func (lo *Planner) key(n int, home []int32) int {
	key := lo.homes.alike[n]
	for _, m := range home {
		if key <<= 1; int(m) == n {
			key++
		}
	}
	return key
}

// remember is the answer for the groups that the branch at hand gives node n.
func (lo *Planner) remember(n int, find func() float64) float64 {
	if lo.known == nil {
		lo.homes.visits -= len(lo.S.Order) / 16 // each costs
		return find()
	}
	k := lo.key(n, lo.homes.at)
	x, ok := lo.known[k]
	if !ok {
		x = find()
		lo.known[k] = x
	}
	return x
}
