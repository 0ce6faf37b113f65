package homes

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/search"
)

const (
	// offNodeCells is the most experts times nodes for which replicas off their
	// nodes are searched for.
	offNodeCells = 1 << 22
	// offNodeWork ends that search of a layer: a count, not a time, so that the
	// answer is the same everywhere. About a hundred milliseconds.
	offNodeWork = 1 << 25
	// fewerCells is the most experts times nodes for which fewer replicas are tried too.
	// Without it one of thirty small layers stands higher with more replicas allowed, by
	// up to .12.
	fewerCells = 1 << 8
	// higherAims is how often the search aims higher, halfway between what it has
	// reached and the aim before, where that was out of reach. Without it plans of 16 to
	// 64 experts stand .4% higher, of many groups 2%.
	higherAims = 3
)

// improve improves the plan at home with replicas off their nodes: where the layer is
// small with one, twice as many, and so on, each time keeping what is better, else with as
// many as may be at once. More of them give more to search, and the search less of it. It
// returns a lower bound.
func (lo *Planner) improve(floor, tolerance float64, stop func() bool) float64 {
	best := &lo.S.Best
	slot := slices.Clone(best.Slot)
	few := lo.p.Off
	if len(lo.copies) <= fewerCells {
		few = max(lo.must, min(few, 1))
	}
	lo.work = offNodeWork
	for ; ; few = min(2*few, lo.p.Off) {
		lo.task.MostOff = few
		low := floor
		if few > 0 && len(lo.copies) <= offNodeCells {
			low = lo.awayBound(floor, best.Level, few)
			lo.leave(slot, low, tolerance, stop)
		}
		lo.anneal(low*(1+tolerance), stop)
		if low = lo.exactly(low, stop); few == lo.p.Off {
			return low
		}
		if best.Level <= floor*(1+tolerance) || stop() {
			return floor
		}
	}
}

// leave makes plans with replicas off their nodes towards a bound.
func (lo *Planner) leave(slot []int32, bound, tolerance float64, stop func() bool) {
	best := &lo.S.Best
	low, aim := bound, bound
	for range 1 + higherAims {
		if best.Level <= bound*(1+2*tolerance) || stop() {
			return
		}
		lo.aim = aim * (1 + tolerance)
		was := best.Level
		if lo.attempt(slot, stop); best.Level == was {
			low = aim // out of reach
		}
		aim = (best.Level + low) / 2
	}
}

// offLimits are the largest replicas, in units of what a GPU may carry, from
// which plans with replicas off their nodes are made anew, likeliest first.
var offLimits = []float64{.999, .9, .8, .7, .85}

// attempt makes plans anew, from the largest replicas that are allowed downwards, and
// last from a plan with few replicas off their nodes, until one is at the aim.
func (lo *Planner) attempt(slot []int32, stop func() bool) {
	home := Of(lo.p, slot)
	at := home
	if lo.canLeave(lo.aim, lo.task.MostOff) {
		at = lo.homes.best
	}
	for _, c := range offLimits {
		lo.setHome(at)
		if lo.construct(float64(c*lo.aim)*lo.S.U.Fastest(), lo.aim, lo.task.MostOff) {
			lo.placeNodes(false)
			lo.settle(lo.S.Slot)
		}
		if lo.S.Best.Level <= lo.aim || stop() {
			return
		}
	}
	lo.setHome(home)
	lo.settle(slot)
}

// settle evens out the nodes of a placement, then the GPUs of each, then all GPUs, and
// keeps it if it is the best. Without a step plans stand .14% higher and more.
func (lo *Planner) settle(slot []int32) {
	p := lo.start(slot)
	stop := func() bool { return p.Work() > lo.work }
	p.EvenNodes(lo.aim, stop)
	if p.NodesOver(lo.S.Best.Level) == 0 {
		copy(lo.S.Count, p.Counts())
		clear(lo.copies)
		for i, e := range p.Slots() {
			if e >= 0 {
				*lo.on(e, lo.task.Node[p.GPU(int32(i))])++
			}
		}
		lo.placeNodes(true)
		p.Start(lo.S.Slot)
		p.Descend(lo.aim, stop)
		lo.keep(p.Slots())
	}
	lo.work -= p.Work()
}

// anneal lowers the best plan until it is within goal, as long as that pays. Without it
// plans with speeds stand .5% higher, those of many groups 2%.
func (lo *Planner) anneal(goal float64, stop func() bool) {
	lo.setHome(Of(lo.p, lo.S.Best.Slot))
	p := lo.start(lo.S.Best.Slot)
	lo.cold.Lower(p, search.FirstDraws, goal, stop)
	lo.work -= p.Work()
	lo.keep(p.Slots())
}

// start readies the search at a placement.
func (lo *Planner) start(slot []int32) *search.State {
	lo.s.Set(&lo.task)
	lo.s.Start(slot)
	return &lo.s
}

// construct makes copies anew for the homes at hand: of every expert above limit as few
// as bring each to limit, of the others one; from nodes with more than level, or than
// their slots, the largest are sent to those with most room, at most may in all; what
// slots are left go to the others on each node as Adams' counts would have it.
// It says whether that fits. Cost: O(experts·nodes).
func (lo *Planner) construct(limit, level float64, may int) bool {
	s := lo.S
	clear(lo.copies)
	clear(lo.slots)
	clear(lo.sum)
	var away []int32
	for _, e := range s.Order {
		n, k := int(lo.task.Home[e]), pack.CeilDiv(s.W[e], limit)
		if k > len(s.U.Gpu) {
			return false
		}
		s.Count[e], s.Size[e] = int32(k), s.W[e]/float64(k)
		here := min(k, lo.nodes[n].gpus())
		lo.put(e, n, here)
		away = append(away, slices.Repeat([]int32{e}, k-here)...)
	}
	for n, d := range lo.nodes {
		for len(away) < may && (lo.slots[n] > d.s.U.Slots || lo.over(n, level) > 0) {
			e := lo.leaver(n, lo.over(n, level))
			if e < 0 {
				break
			}
			lo.put(e, n, -1)
			away = append(away, e)
		}
	}
	slices.SortStableFunc(away, func(a, b int32) int { return cmp.Compare(s.Size[b], s.Size[a]) })
	for _, e := range away {
		best := -1
		for n, d := range lo.nodes {
			if n != int(lo.task.Home[e]) && lo.slots[n] < d.s.U.Slots && int(*lo.on(e, n)) < d.gpus() && (best < 0 || lo.over(n, 1) < lo.over(best, 1)) {
				best = n
			}
		}
		if best < 0 {
			return false
		}
		lo.put(e, best, 1)
	}
	return len(away) <= may && lo.fillNodes(limit)
}

// put brings so many copies of e to node n.
func (lo *Planner) put(e int32, n, copies int) {
	*lo.on(e, n) += int16(copies)
	lo.slots[n] += copies
	lo.sum[n] += float64(float64(copies) * lo.S.Size[e])
}

// on is how many copies of e are on node n.
func (lo *Planner) on(e int32, n int) *int16 { return &lo.copies[int(e)*len(lo.nodes)+n] }

// over is what node n carries above a level.
func (lo *Planner) over(n int, level float64) float64 {
	return lo.sum[n] - float64(level*lo.homes.power[n])
}

// leaver is the expert with the smallest copy on node n that makes up for over, or the
// largest; -1 = there is none.
func (lo *Planner) leaver(n int, over float64) int32 {
	best, size := int32(-1), lo.S.Size
	for _, e := range lo.S.Order {
		if x := size[e]; *lo.on(e, n) > 0 && (best < 0 || x >= over && x < size[best] || x > size[best] && size[best] < over) {
			best = e
		}
	}
	return best
}

// fillNodes gives the slots that are left to the experts of at most limit at home there
// whose replicas are largest, but for those that may be empty if there are no such
// experts, and says whether no node has too many or too few.
func (lo *Planner) fillNodes(limit float64) bool {
	s := lo.S
	for n, d := range lo.nodes {
		for lo.slots[n] < d.s.U.Slots {
			best := int32(-1)
			for _, e := range s.Order {
				c := int(*lo.on(e, n))
				if c > 0 && c < d.gpus() && s.W[e] <= limit && int(lo.task.Home[e]) == n && (best < 0 || s.Size[e] > s.Size[best]) {
					best = e
				}
			}
			if best < 0 {
				break
			}
			s.Count[best]++
			s.Size[best] = s.W[best] / float64(s.Count[best])
			lo.put(best, n, 1)
		}
		if left := d.s.U.Slots - lo.slots[n]; left < 0 || left > d.spare*d.gpus() {
			return false
		}
	}
	return true
}
