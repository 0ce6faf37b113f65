package homes

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

const (
	// offNodeCells is the most experts times nodes for which replicas off their
	// nodes are searched for.
	offNodeCells = 1 << 22
	// offNodeWork ends that search of a layer: a count, not a time, so that the
	// answer is the same everywhere. About a hundred milliseconds.
	offNodeWork = 1 << 25
	// fewerWork is how much of it may be spent before fewer replicas are tried: that is
	// for layers of which few milliseconds are spent. Without it one of thirty small
	// layers stands higher with more replicas allowed, by up to .12.
	fewerWork = offNodeWork / 32
	// higherAims is how often the search aims higher, halfway between what it has
	// reached and the aim before, where that was out of reach. Without it plans of 16 to
	// 64 experts stand .4% higher, of many groups 2%.
	higherAims = 3
)

// leaveHomes improves the plan with up to lo.few replicas off their nodes, and returns
// a lower bound.
func (lo *Planner) leaveHomes(floor, tolerance float64, stop func() bool) float64 {
	s := lo.S
	slot, home := slices.Clone(s.Best.Slot), slices.Clone(lo.bestHome)
	bound := lo.awayBound(floor, s.Best.Level)
	low, aim := bound, bound
	for range 1 + higherAims {
		if s.Best.Level <= bound*(1+2*tolerance) || stop() {
			break
		}
		lo.aim = aim * (1 + tolerance)
		was := s.Best.Level
		lo.attempt(slot, home, stop)
		if s.Best.Level == was {
			low = aim // out of reach
		}
		aim = (s.Best.Level + low) / 2
	}
	return bound
}

// offLimits are the largest replicas, in units of what a GPU may carry, from
// which plans with replicas off their nodes are made anew, likeliest first.
var offLimits = []float64{.999, .9, .8, .7, .85}

// attempt makes plans anew, from the largest replicas that are allowed downwards, and
// last from a plan with few replicas off their nodes, until one is at the aim.
func (lo *Planner) attempt(slot, home []int32, stop func() bool) {
	s, at := lo.S, home
	if lo.canLeave(lo.aim) {
		at = lo.homes.best
	}
	for _, c := range offLimits {
		lo.setHome(at)
		if lo.construct(float64(c*lo.aim)*s.U.Fastest(), lo.aim, lo.few) {
			lo.placeNodes(false)
			lo.settle(s.Slot)
		}
		if s.Best.Level <= lo.aim || stop() {
			return
		}
	}
	lo.setHome(home)
	lo.settle(slot)
}

// setHome makes home the homes at hand.
func (lo *Planner) setHome(home []int32) {
	copy(lo.Home, home)
	for e := range lo.task.Home {
		lo.task.Home[e] = home[e/lo.per]
	}
}

// settle evens out the nodes of a placement, then the GPUs of each, then all GPUs, and
// keeps it if it is the best. Without a step plans stand .14% higher and more.
func (lo *Planner) settle(slot []int32) {
	p := lo.start(slot)
	stop := func() bool { return p.Work() > lo.work }
	if p.EvenNodes(lo.aim, stop) < lo.S.Best.Level {
		lo.load(p.Slots(), p.Counts())
		lo.placeNodes(true)
		p.Start(lo.S.Slot)
		p.Descend(lo.aim, stop)
		lo.keep(p.Slots())
	}
	lo.work -= p.Work()
}

// start readies the search at a placement.
func (lo *Planner) start(slot []int32) *search.State {
	lo.task.Load = lo.S.W
	lo.s.Set(&lo.task)
	lo.s.Start(slot)
	return &lo.s
}

// load takes up the copies of a placement.
func (lo *Planner) load(slot, count []int32) {
	clear(lo.copies)
	copy(lo.S.Count, count)
	for n, d := range lo.nodes {
		for _, e := range slot[lo.S.U.First[d.lo]:lo.S.U.First[d.hi]] {
			if e >= 0 {
				*lo.on(e, n)++
			}
		}
	}
}

// anneal lowers the best plan until it is within goal, as long as that pays. Without it
// plans with speeds stand .5% higher, those of many groups 2%.
func (lo *Planner) anneal(goal float64, stop func() bool) {
	p := lo.start(lo.S.Best.Slot)
	lo.cold.Lower(p, search.FirstDraws, goal, stop)
	lo.work -= p.Work()
	lo.keep(p.Slots())
}
