package eplb

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/search"
)

// scratch plans a layer from scratch where experts may live anywhere, or in two
// domains each: packings of some counts, improved. Its memory is used again for
// every layer.
type scratch struct {
	*solver
	fold   *fold
	sums   sumBound
	exact  *exact
	cold   search.Annealer
	thrift int // divides the work on small layers

	annealing *annealing
}

func newScratch(u *unit, experts, layers int) *scratch {
	s := newSolver(u, experts)
	return &scratch{solver: s, fold: newFold(s), exact: newExact(s), thrift: max(1, layers/manyLayers)}
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

// farOff is how far above the goal a packing of Adams' counts is left as it is
// at first: of 58 layers of each skew none farther off came to the goal by swaps.
const farOff = 1.025

// tries is how many of capLimits are worth their time: on very large layers one
// packing and its swaps take a second.
func (s *scratch) tries() int {
	switch {
	case !s.u.equal && int64(s.u.slots)*int64(len(s.u.gpu)) > 1<<30:
		return 0
	case s.u.slots > 1<<14:
		return 2
	}
	return len(capLimits)
}

// search fills s.best with a placement within tolerance of a lower bound, or as
// near as it gets, and returns the bound. stop is asked between attempts; the
// first is always finished.
func (s *scratch) search(tolerance float64, stop func() bool) (bound float64) {
	most := len(s.u.gpu)
	if s.idle {
		return s.spread()
	}
	bound = speedBound(s.solver, replicaBound(s.solver))
	goal := bound * (1 + tolerance)
	if twoEach(s.solver) {
		if bound = s.fold.search(bound, stop); s.best.level <= bound*(1+provedTolerance) {
			return bound
		}
	}
	packed := s.adams(s.u.slots, most, nil) && s.pack()
	// Where large replicas come in each other's way already, swaps rarely help:
	// other counts are tried first.
	far := packed && s.level() > goal*farOff
	if packed {
		if !far {
			s.swap(goal)
		}
		s.keep()
	}
	for _, c := range capLimits[:s.tries()] {
		if s.best.level <= goal || stop() {
			break
		}
		if s.capped(s.u.slots, most, c*bound) && s.pack() {
			s.swap(goal)
			s.keep()
		}
	}
	if far && s.best.level > goal && !stop() && s.adams(s.u.slots, most, nil) && s.pack() {
		s.swap(goal)
		s.keep()
	}
	if s.best.level > goal && !math.IsInf(s.best.level, 1) {
		bound = s.sums.raiseFor(s.solver, bound)
		if goal = max(goal, bound*(1+tolerance)); s.u.equal && s.best.level > goal {
			s.fold.searchSums(bound, goal, stop)
		}
	}
	if math.IsInf(s.best.level, 1) {
		s.adams(s.u.slots, most, nil)
		s.deal()
		s.swap(goal)
		s.keep()
	}
	if s.u.slots <= shiftSlots {
		s.shiftCounts(goal, stop)
		bound = s.exact.improve(bound, s.thrift, stop)
	}
	if s.best.level > bound*(1+provedTolerance) {
		s.anneal(goal, stop)
	}
	return bound
}

// shiftCounts moves one copy from an expert to another and packs anew, over and
// over, and keeps what is better, until the goal is met or no such move helps.
func (s *scratch) shiftCounts(goal float64, stop func() bool) {
	work := shiftWork / s.thrift
	for again := true; again; {
		again = false
		for _, f := range s.order {
			if s.best.count[f] == 1 {
				continue
			}
			for _, e := range s.order {
				if e == f || int(s.best.count[e]) == len(s.u.gpu) || s.best.count[f] == 1 {
					continue
				}
				if work -= s.u.slots; s.best.level <= goal || work < 0 || stop() {
					return
				}
				copy(s.count, s.best.count)
				s.count[f]--
				s.count[e]++
				// A replica above the best level cannot be part of a better plan.
				if s.w[f]/float64(s.count[f]) >= float64(s.best.level*s.u.fastest()) || !s.pack() {
					continue
				}
				was := s.best.level
				s.swap(goal)
				s.keep()
				again = again || s.best.level < was
			}
		}
	}
}
