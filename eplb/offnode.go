package eplb

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/search"
)

// offNode is what the search for replicas off their nodes needs.
type offNode struct {
	homeAt   []int32 // home node of each expert
	bestHome []int32 // home of each group in the best plan
	start    housed  // the plan to start from
	top      housed  // the best of all rounds
	aim      float64 // the level aimed at
	work     int     // left of offNodeWork

	// The copies at hand.
	copies []int16     // [experts][nodes] replicas of each expert on each node
	on     [][]int32   // the experts on each node
	sizes  [][]float64 // the size of a replica of each of them
	sum    []float64   // load of each node
	out    int         // replicas off their node
	limit  []float64   // the largest replica that a GPU of each node can take

	// What single steps do.
	over   []float64 // what each node carries above the aim, negative below it
	cut    []shift   // taking a copy off a node
	put    []shift   // a further copy on a node
	fill   []shift   // a further copy where one was moved away
	delta  []float64
	better betterMove

	skipped []int   // hottest experts of each node that found no slot there
	spare   []int32 // those experts
	slots   []int   // filled on each node
	frozen  []bool  // experts whose count stays
	exports []int32 // copies sent away
	small   []float64
	away    offBound
	cold    search.Annealer
	settling *settling
}

const (
	// offNodeCells is the most experts times nodes for which replicas off their
	// nodes are searched for.
	offNodeCells = 1 << 22
	// offNodeWork ends that search of a layer: a count, not a time, so that the
	// answer is the same everywhere. About a hundred milliseconds.
	offNodeWork = 1 << 25
)

func (f *offNode) init(lo *locality) {
	n := len(lo.nodes)
	f.skipped = make([]int, n)
	f.homeAt = make([]int32, len(lo.s.w))
	if lo.off == 0 || len(lo.s.w)*n > offNodeCells {
		return
	}
	f.copies = make([]int16, len(lo.s.w)*n)
	f.sizes = make([][]float64, n)
	f.on = make([][]int32, n)
	f.sum = make([]float64, n)
	f.slots = make([]int, n)
	f.frozen = make([]bool, len(lo.s.w))
	f.over = make([]float64, n)
	f.limit = make([]float64, n)
	lo.away.need = lo.mustLeave
}

// leaveHomes improves the plan with up to lo.off replicas off their nodes. Every
// round starts from the plan at hand, with all it may use, then with as many as
// the next power of two below, and so on down to one, as long as the bound allows
// fewer to be better: so more are not worse than fewer, among powers of two, by
// more than the tolerance.
func (lo *locality) leaveHomes(bound, tolerance float64, stop func() bool) float64 {
	s := lo.s
	lo.start.take(&s.best, lo.bestHome)
	lo.top.take(&s.best, lo.bestHome)
	floor := bound
	bound = lo.awayBound(floor, lo.start.level, lo.off)
	lower := bound
	for x := lo.off; x > 0 && lo.top.level > bound*(1+tolerance) && !stop(); {
		if x < lo.off {
			lower = lo.awayBound(floor, lo.start.level, x)
		}
		if lo.top.level <= lower*(1+tolerance) {
			break // no plan with fewer is better
		}
		lo.start.give(&s.best, lo.bestHome)
		lo.round(x, lower, tolerance, stop)
		if s.best.level < lo.top.level {
			lo.top.take(&s.best, lo.bestHome)
		}
		x = halfOf(x)
	}
	lo.top.give(&s.best, lo.bestHome)
	lo.setHome(lo.bestHome)
	return bound
}

// housed is a plan kept aside with its homes.
type housed struct {
	layout
	home []int32
}

func (h *housed) take(from *layout, home []int32) {
	h.slot, h.count, h.level = append(h.slot[:0], from.slot...), append(h.count[:0], from.count...), from.level
	h.home = append(h.home[:0], home...)
}

func (h *housed) give(to *layout, home []int32) {
	copy(to.slot, h.slot)
	copy(to.count, h.count)
	to.level = h.level
	copy(home, h.home)
}

// offLimits are the largest replicas, in units of what a GPU may carry, from
// which plans with replicas off their nodes are made anew, likeliest first.
var offLimits = []float64{.999, .9, .8, .7, .85}

// roundAims is how often a round aims higher, halfway between what it has reached
// and the aim before, where that was out of reach.
const roundAims = 3

// round searches for a plan with at most x replicas off their nodes, better than
// s.best; none is below bound.
func (lo *locality) round(x int, bound, tolerance float64, stop func() bool) {
	s := lo.s
	lo.work = offNodeWork
	aim := bound
	for range 1 + roundAims {
		lo.aim = aim * (1 + tolerance)
		was := s.best.level
		lo.attempt(x, stop)
		if s.best.level <= bound*(1+2*tolerance) || stop() {
			return
		}
		if s.best.level == was {
			bound = aim // out of reach
		}
		aim = (s.best.level + bound) / 2
	}
}

// attempt makes plans with at most x replicas off their nodes anew, from the
// largest replicas that are allowed downwards, and last from the plan to start
// from, until one is at the aim.
func (lo *locality) attempt(x int, stop func() bool) {
	s := lo.s
	lo.away.may = x
	home := lo.start.home
	if lo.canLeave(lo.aim) {
		home = lo.homes.best
	}
	for _, c := range offLimits {
		lo.setHome(home)
		if lo.construct(float64(c*lo.aim)*s.u.fastest(), x) {
			lo.improve(x)
		}
		if s.best.level <= lo.aim || stop() {
			return
		}
	}
	lo.load(&lo.start)
	lo.improve(x)
}

// improve spreads the copies at hand over the nodes, places them on their GPUs,
// refines that and keeps it if it is the best.
func (lo *locality) improve(x int) {
	lo.spread(x)
	for n := range lo.nodes {
		if lo.sum[n] >= float64(lo.s.best.level*lo.nodes[n].power) {
			return
		}
	}
	if lo.placeNodes() {
		lo.settle(x)
		lo.keepWhole()
	}
}

// keepWhole keeps the placement at hand with its homes if it is the best.
func (lo *locality) keepWhole() {
	level := lo.s.best.level
	if lo.s.keep(); lo.s.best.level < level {
		copy(lo.bestHome, lo.home)
	}
}

// setHome makes home the homes at hand.
func (lo *locality) setHome(home []int32) {
	copy(lo.home, home)
	for e := range lo.experts {
		lo.homeAt[e] = home[e/lo.per]
	}
}

// load takes up the copies of a plan.
func (lo *locality) load(from *housed) {
	s := lo.s
	nodes := len(lo.nodes)
	lo.setHome(from.home)
	clear(lo.copies)
	copy(s.count, from.count)
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		for _, e := range from.slot[s.u.first[ns.lo]:s.u.first[ns.hi]] {
			lo.copies[int(e)*nodes+n]++
		}
	}
	lo.total()
}

// total derives the nodes' loads and experts from the copies.
func (lo *locality) total() {
	s := lo.s
	nodes := len(lo.nodes)
	lo.out = 0
	for n := range lo.nodes {
		lo.on[n], lo.sizes[n] = lo.on[n][:0], lo.sizes[n][:0]
		lo.sum[n] = 0
	}
	for e, w := range s.w {
		s.size[e] = w / float64(max(s.count[e], 1))
	}
	defer lo.limits()
	for _, e := range s.order {
		for n := range lo.nodes {
			if c := lo.copies[int(e)*nodes+n]; c > 0 {
				lo.on[n] = append(lo.on[n], e)
				lo.sizes[n] = append(lo.sizes[n], s.size[e])
				lo.sum[n] += float64(float64(c) * s.size[e])
				if n != int(lo.homeAt[e]) {
					lo.out += int(c)
				}
			}
		}
	}
}

// placeNodes places the copies of every node on its GPUs and keeps the whole if
// it is the best so far.
func (lo *locality) placeNodes() bool {
	nodes := len(lo.nodes)
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		ns.ids = append(ns.ids[:0], lo.on[n]...)
		v := ns.s
		m := len(ns.ids)
		v.w, v.order, v.count, v.size = v.w[:m], v.order[:m], v.count[:m], v.size[:m]
		for i, e := range ns.ids {
			c := lo.copies[int(e)*nodes+n]
			v.w[i] = lo.s.size[e] * float64(c)
			v.count[i] = int32(c)
		}
		v.sortExperts()
		v.best.level = math.Inf(1)
		if len(v.u.gpu) == 0 {
			v.best.level = 0
			continue
		}
		if !v.pack() {
			return false
		}
		v.swap(lo.aim)
		v.keep()
	}
	lo.gather()
	return true
}

// settling improves plans by single slots.
type settling struct {
	s    search.State
	task search.Task
}

const (
	// settleDraws is how many random changes follow the descent of a plan.
	settleDraws = 1 << 9
	// drawCost is the work of one, in slots looked at.
	drawCost = 64
	// settleSlack is how much worse than the best a plan may be for that.
	settleSlack = 1e-2
)

// settle improves the placement at hand by single slots, with at most may replicas
// off their node. Without it 8 of them on 4 nodes of 8 GPUs leave .2 to .6% more.
func (lo *locality) settle(may int) {
	s := lo.s
	if len(s.w) > lo.experts {
		return // what stands for empty slots is not moved
	}
	p := lo.settling
	if p == nil {
		p = &settling{task: search.Task{Experts: lo.experts, First: s.u.first, Speed: s.u.speed, Share: []float64{1}, Node: s.u.node}}
		lo.settling = p
	}
	p.task.Load, p.task.Home, p.task.MostOff = s.w, lo.homeAt, may
	p.s.Set(&p.task)
	p.s.Start(s.slot)
	stop := func() bool { return p.s.Work() > lo.work }
	level := p.s.Descend(lo.aim, stop)
	lo.work -= p.s.Work()
	if level > lo.aim && level < s.best.level*(1+settleSlack) && lo.work > 0 {
		lo.work -= settleDraws * drawCost
		lo.cold.Anneal(&p.s, settleDraws, lo.aim, func() bool { return false })
	}
	copy(s.slot, p.s.Slots())
	copy(s.count, p.s.Counts())
	for e, w := range s.w {
		s.size[e] = w / float64(s.count[e])
	}
}
