package homes

import (
	"math/bits"
	"slices"

	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/search"
)

// offNode is what the search for replicas off their nodes needs.
type offNode struct {
	homeAt   []int32 // home node of each expert
	bestHome []int32 // home of each group in the best plan
	aim      float64 // the level aimed at
	work     int     // left of offNodeWork

	// The copies at hand.
	copies  []int16   // [experts][nodes] replicas of each expert on each node
	sum     []float64 // load of each node
	slots   []int     // filled on each node
	frozen  []bool    // experts whose count stays
	exports []int32   // copies sent away

	// What the bound looks at: a level, the pieces of the experts at it, and how many of
	// them may be off their nodes.
	level  float64
	pieces []offPiece
	may    int

	s    search.State
	task search.Task
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
	n, experts := len(lo.nodes), len(lo.S.W)
	f.homeAt, f.frozen = make([]int32, experts), make([]bool, experts)
	f.copies = make([]int16, experts*n)
	f.sum, f.slots = make([]float64, n), make([]int, n)
	u := lo.S.U
	f.task = search.Task{Experts: experts, First: u.First, Speed: u.Speed, Share: []float64{1}, Home: f.homeAt, Node: u.Node, MostOff: lo.off}
}

// housed is a plan kept aside with its homes.
type housed struct {
	pack.Layout
	home []int32
}

// leaveHomes improves the plan with up to lo.off replicas off their nodes, and returns
// a lower bound. Every round starts from the plan at hand, with all it may use, then
// with as many as the next power of two below, and so on down to one, as long as the
// bound allows fewer to be better: so more are not worse than fewer, among powers of
// two, by more than the tolerance.
func (lo *Planner) leaveHomes(floor, tolerance float64, stop func() bool) float64 {
	start := housed{lo.S.Best.Clone(), slices.Clone(lo.bestHome)}
	bound := lo.awayBound(floor, start.Level, lo.off)
	low := bound
	for x := lo.off; x > 0 && lo.S.Best.Level > low*(1+tolerance) && !stop(); {
		lo.round(&start, x, low, tolerance, stop)
		if x = below(x); x > 0 {
			low = lo.awayBound(floor, start.Level, x)
		}
	}
	lo.setHome(lo.bestHome)
	return bound
}

// below is the largest power of two below x, or 0.
func below(x int) int { return 1 << bits.Len(uint(x-1)) >> 1 }

// roundAims is how often a round aims higher, halfway between what it has reached and
// the aim before, where that was out of reach. Without it plans stand .17% higher.
const roundAims = 3

// round looks for a plan with at most may replicas off their nodes; none is below
// bound.
func (lo *Planner) round(start *housed, may int, bound, tolerance float64, stop func() bool) {
	s := lo.S
	lo.work, lo.may, lo.task.MostOff = offNodeWork, may, may
	low, aim := bound, bound
	for range 1 + roundAims {
		lo.aim = aim * (1 + tolerance)
		was := s.Best.Level
		lo.attempt(start, may, stop)
		if s.Best.Level <= bound*(1+2*tolerance) || stop() {
			return
		}
		if s.Best.Level == was {
			low = aim // out of reach
		}
		aim = (s.Best.Level + low) / 2
	}
}

// offLimits are the largest replicas, in units of what a GPU may carry, from
// which plans with replicas off their nodes are made anew, likeliest first.
var offLimits = []float64{.999, .9, .8, .7, .85}

// attempt makes plans with at most may replicas off their nodes anew, from the largest
// replicas that are allowed downwards, and last from the plan to start from, until one
// is at the aim.
func (lo *Planner) attempt(start *housed, may int, stop func() bool) {
	s := lo.S
	home := start.home
	if lo.canLeave(lo.aim) {
		home = lo.homes.best
	}
	for _, c := range offLimits {
		lo.setHome(home)
		if lo.construct(float64(c*lo.aim)*s.U.Fastest(), may) {
			lo.placeNodes(false)
			lo.settle()
		}
		if s.Best.Level <= lo.aim || stop() {
			return
		}
	}
	lo.setHome(start.home)
	copy(s.Slot, start.Slot)
	lo.settle()
}

// setHome makes home the homes at hand.
func (lo *Planner) setHome(home []int32) {
	copy(lo.Home, home)
	for e := range lo.homeAt {
		lo.homeAt[e] = home[e/lo.per]
	}
}

// settle evens out the nodes of the placement at hand, then the GPUs of each, then all
// GPUs, and keeps it if it is the best. Without a step plans stand .14% higher and more.
func (lo *Planner) settle() {
	s, p := lo.S, &lo.s
	lo.task.Load = s.W
	p.Set(&lo.task)
	p.Start(s.Slot)
	stop := func() bool { return p.Work() > lo.work }
	defer func() { lo.work -= p.Work() }()
	if p.EvenNodes(lo.aim, stop) >= s.Best.Level {
		return
	}
	lo.load(p.Slots())
	lo.placeNodes(true)
	p.Start(s.Slot)
	p.Descend(lo.aim, stop)
	copy(s.Slot, p.Slots())
	copy(s.Count, p.Counts())
	lo.keepWhole()
}

// load takes up the copies of a layout.
func (lo *Planner) load(slot []int32) {
	s, nodes := lo.S, len(lo.nodes)
	clear(lo.copies)
	clear(s.Count)
	for n := range lo.nodes {
		d := &lo.nodes[n]
		for _, e := range slot[s.U.First[d.lo]:s.U.First[d.hi]] {
			if e >= 0 {
				lo.copies[int(e)*nodes+n]++
				s.Count[e]++
			}
		}
	}
}
