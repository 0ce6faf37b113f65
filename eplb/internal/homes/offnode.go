package homes

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/pack"
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
	copies   []int16   // [experts][nodes] replicas of each expert on each node
	on       [][]int32 // the experts on each node
	sum      []float64 // load of each node
	out      int       // replicas off their node
	skipped  []int     // hottest experts of each node that found no slot there
	spare    []int32   // those experts
	slots    []int     // filled on each node
	frozen   []bool    // experts whose count stays
	exports  []int32   // copies sent away
	away     offBound
	cold     search.Annealer
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

func (f *offNode) init(lo *Planner) {
	n := len(lo.nodes)
	f.skipped = make([]int, n)
	f.homeAt = make([]int32, len(lo.S.W))
	if lo.off == 0 || len(lo.S.W)*n > offNodeCells {
		return
	}
	f.copies = make([]int16, len(lo.S.W)*n)
	f.on = make([][]int32, n)
	f.sum = make([]float64, n)
	f.slots = make([]int, n)
	f.frozen = make([]bool, len(lo.S.W))
	lo.away.need = lo.mustLeave
}

// leaveHomes improves the plan with up to lo.off replicas off their nodes. Every
// round starts from the plan at hand, with all it may use, then with as many as
// the next power of two below, and so on down to one, as long as the bound allows
// fewer to be better: so more are not worse than fewer, among powers of two, by
// more than the tolerance.
func (lo *Planner) leaveHomes(bound, tolerance float64, stop func() bool) float64 {
	s := lo.S
	lo.start.take(&s.Best, lo.bestHome)
	lo.top.take(&s.Best, lo.bestHome)
	floor := bound
	bound = lo.awayBound(floor, lo.start.Level, lo.off)
	lower := bound
	for x := lo.off; x > 0 && lo.top.Level > bound*(1+tolerance) && !stop(); {
		if x < lo.off {
			lower = lo.awayBound(floor, lo.start.Level, x)
		}
		if lo.top.Level <= lower*(1+tolerance) {
			break // no plan with fewer is better
		}
		lo.start.give(&s.Best, lo.bestHome)
		lo.round(x, lower, tolerance, stop)
		if s.Best.Level < lo.top.Level {
			lo.top.take(&s.Best, lo.bestHome)
		}
		x = halfOf(x)
	}
	lo.top.give(&s.Best, lo.bestHome)
	lo.setHome(lo.bestHome)
	return bound
}

// housed is a plan kept aside with its homes.
type housed struct {
	pack.Layout
	home []int32
}

func (h *housed) take(from *pack.Layout, home []int32) {
	h.Slot, h.Count, h.Level = append(h.Slot[:0], from.Slot...), append(h.Count[:0], from.Count...), from.Level
	h.home = append(h.home[:0], home...)
}

func (h *housed) give(to *pack.Layout, home []int32) {
	copy(to.Slot, h.Slot)
	copy(to.Count, h.Count)
	to.Level = h.Level
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
func (lo *Planner) round(x int, bound, tolerance float64, stop func() bool) {
	s := lo.S
	lo.work = offNodeWork
	aim := bound
	for range 1 + roundAims {
		lo.aim = aim * (1 + tolerance)
		was := s.Best.Level
		lo.attempt(x, stop)
		if s.Best.Level <= bound*(1+2*tolerance) || stop() {
			return
		}
		if s.Best.Level == was {
			bound = aim // out of reach
		}
		aim = (s.Best.Level + bound) / 2
	}
}

// attempt makes plans with at most x replicas off their nodes anew, from the
// largest replicas that are allowed downwards, and last from the plan to start
// from, until one is at the aim.
func (lo *Planner) attempt(x int, stop func() bool) {
	s := lo.S
	lo.away.may = x
	home := lo.start.home
	if lo.canLeave(lo.aim) {
		home = lo.homes.best
	}
	for _, c := range offLimits {
		lo.setHome(home)
		if lo.construct(float64(c*lo.aim)*s.U.Fastest(), x) && lo.placeNodes(false) {
			lo.settle(x)
		}
		if s.Best.Level <= lo.aim || stop() {
			return
		}
	}
	lo.setHome(lo.start.home)
	copy(s.Slot, lo.start.Slot)
	lo.settle(x)
}

// keepWhole keeps the placement at hand with its homes if it is the best.
func (lo *Planner) keepWhole() {
	level := lo.S.Best.Level
	if lo.S.Keep(); lo.S.Best.Level < level {
		copy(lo.bestHome, lo.Home)
	}
}

// setHome makes home the homes at hand.
func (lo *Planner) setHome(home []int32) {
	copy(lo.Home, home)
	for e := range lo.experts {
		lo.homeAt[e] = home[e/lo.per]
	}
}

// load takes up the copies of a layout.
func (lo *Planner) load(slot []int32) {
	s := lo.S
	nodes := len(lo.nodes)
	clear(lo.copies)
	clear(s.Count)
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		for _, e := range slot[s.U.First[ns.lo]:s.U.First[ns.hi]] {
			lo.copies[int(e)*nodes+n]++
			s.Count[e]++
		}
	}
	lo.total()
}

// total derives the nodes' loads and experts from the copies.
func (lo *Planner) total() {
	s := lo.S
	nodes := len(lo.nodes)
	lo.out = 0
	for n := range lo.nodes {
		lo.on[n] = lo.on[n][:0]
		lo.sum[n] = 0
	}
	for e, w := range s.W {
		s.Size[e] = w / float64(max(s.Count[e], 1))
	}
	for _, e := range s.Order {
		for n := range lo.nodes {
			if c := lo.copies[int(e)*nodes+n]; c > 0 {
				lo.on[n] = append(lo.on[n], e)
				lo.sum[n] += float64(float64(c) * s.Size[e])
				if n != int(lo.homeAt[e]) {
					lo.out += int(c)
				}
			}
		}
	}
}

// placeNodes places the copies of every node on its GPUs and keeps the whole if
// it is the best so far.
func (lo *Planner) placeNodes(even bool) bool {
	nodes := len(lo.nodes)
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		ns.ids = append(ns.ids[:0], lo.on[n]...)
		v := ns.s
		m := len(ns.ids)
		v.W, v.Order, v.Count, v.Size = v.W[:m], v.Order[:m], v.Count[:m], v.Size[:m]
		for i, e := range ns.ids {
			c := lo.copies[int(e)*nodes+n]
			v.W[i] = lo.S.Size[e] * float64(c)
			v.Count[i] = int32(c)
		}
		v.SortExperts()
		v.Best.Level = math.Inf(1)
		if len(v.U.Gpu) == 0 {
			v.Best.Level = 0
			continue
		}
		if !v.Pack() {
			return false
		}
		if even {
			v.Swap(lo.aim)
		}
		v.Keep()
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

// settle evens out the nodes of the placement at hand, with at most may replicas off
// their node, then its GPUs, and keeps it if it is the best.
func (lo *Planner) settle(may int) {
	s := lo.S
	p := lo.settling
	if p == nil {
		p = &settling{task: search.Task{Experts: len(s.W), First: s.U.First, Speed: s.U.Speed, Share: []float64{1}, Node: s.U.Node}}
		lo.settling = p
	}
	p.task.Load, p.task.Home, p.task.MostOff = s.W, lo.homeAt, may
	p.s.Set(&p.task)
	p.s.Start(s.Slot)
	stop := func() bool { return p.s.Work() > lo.work }
	defer func() { lo.work -= p.s.Work() }()
	if p.s.EvenNodes(lo.aim, stop) >= s.Best.Level || !lo.emptyAtHome(p.s.Slots()) {
		return
	}
	lo.load(p.s.Slots())
	if lo.placeNodes(true) {
		p.s.Start(s.Slot)
	}
	level := p.s.Descend(lo.aim, stop)
	if level > lo.aim && level < s.Best.Level*(1+settleSlack) && !stop() {
		lo.work -= settleDraws * drawCost
		lo.cold.Anneal(&p.s, settleDraws, lo.aim, func() bool { return false })
	}
	if !lo.emptyAtHome(p.s.Slots()) {
		return
	}
	copy(s.Slot, p.s.Slots())
	copy(s.Count, p.s.Counts())
	for e, w := range s.W {
		s.Size[e] = w / float64(s.Count[e])
	}
	lo.keepWhole()
}

// emptyAtHome says whether what stands for empty slots is on its node.
func (lo *Planner) emptyAtHome(slot []int32) bool {
	for i, e := range slot {
		if ns := &lo.nodes[lo.homeAt[e]]; int(e) >= lo.experts && (i < lo.S.U.First[ns.lo] || i >= lo.S.U.First[ns.hi]) {
			return false
		}
	}
	return true
}
