package fresh

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/exact"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/pairs"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/search"
)

// Anywhere plans a layer where experts may live anywhere, or in two domains each:
// packings of some counts, improved. Its memory is used again for every layer.
type Anywhere struct {
	*pack.Packer
	fold   *pairs.Search
	sums   bounds.Sums
	exact  *exact.Search
	cold   search.Annealer
	thrift int // divides the work on small layers

	at   search.State // where the search stands
	task search.Task
}

// newAnywhere is a planner; with two, every expert comes to two nodes.
func newAnywhere(u *problem.Unit, experts, layers int, two bool) *Anywhere {
	p := pack.New(u, experts)
	s := &Anywhere{Packer: p, fold: pairs.New(p), exact: exact.New(p), thrift: max(1, layers/manyLayers)}
	s.task = search.Task{Experts: experts, First: u.First, Speed: u.Speed, Share: []float64{1}, Load: p.W}
	if two {
		s.Least, s.exact.Apart, s.task.Domain = 2, true, u.Node
	}
	return s
}

const (
	// shiftSlots is the most slots of a layer whose counts are searched by
	// packing: beyond, a step costs too much.
	shiftSlots = 128
	// shiftWork ends that search, in slots packed: a millisecond or two.
	shiftWork = 1 << 16
	// manyLayers is how many layers may each take all of that; more share it.
	manyLayers = 256
)

// tries is how many of capLimits are worth their time: on very large layers one
// packing and its swaps take a second.
func (s *Anywhere) tries() int {
	switch {
	case !s.U.Equal && int64(s.U.Slots)*int64(len(s.U.Gpu)) > 1<<30:
		return 0
	case s.U.Slots > 1<<14:
		return 2
	}
	return len(pack.CapLimits)
}

// Search fills s.Best with a placement within tolerance of a lower bound, or as
// near as it gets, and returns the bound. stop is asked between attempts; the
// first is always finished.
func (s *Anywhere) Search(tolerance float64, stop func() bool) (bound float64) {
	if s.Idle && s.task.Domain == nil { // as many replicas of each expert as of any other, or one more
		s.Plan(1, math.Inf(1), 0, stop)
		return 1
	}
	bound = bounds.Even(s.Packer)
	if s.task.Domain != nil {
		s.inTwo(bound, bound*(1+tolerance), stop)
	} else if pairs.TwoEach(s.Packer) {
		bound = s.fold.SearchFold(bound, stop)
	}
	goal := bound * (1 + tolerance)
	if s.task.Domain == nil && s.Best.Level > bound*(1+pack.ProvedTolerance) {
		s.Plan(bound, goal, s.tries(), stop)
		if s.Best.Level > goal {
			bound = s.sums.RaiseFor(s.Packer, bound)
			if goal = max(goal, bound*(1+tolerance)); s.U.Equal && s.Best.Level > goal {
				s.fold.SearchSums(bound, goal, stop)
			}
		}
		if s.U.Slots <= shiftSlots {
			s.ShiftCounts(goal, shiftWork/s.thrift, stop)
		}
	}
	bound = s.exact.Improve(bound, s.thrift, stop)
	if s.Best.Level > bound*(1+pack.ProvedTolerance) {
		s.anneal(goal, stop)
	}
	return bound
}
