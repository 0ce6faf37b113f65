package scratch

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/exact"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/pairs"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/search"
)

// Planner plans a layer from scratch where experts may live anywhere, or in two
// domains each: packings of some counts, improved. Its memory is used again for
// every layer.
type Planner struct {
	*pack.Packer
	fold   *pairs.Search
	sums   bounds.Sums
	exact  *exact.Search
	cold   search.Annealer
	thrift int // divides the work on small layers

	annealing *annealing
}

func New(u *problem.Unit, experts, layers int) *Planner {
	s := pack.New(u, experts)
	return &Planner{Packer: s, fold: pairs.New(s), exact: exact.New(s), thrift: max(1, layers/manyLayers)}
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
func (s *Planner) tries() int {
	switch {
	case !s.U.Equal && int64(s.U.Slots)*int64(len(s.U.Gpu)) > 1<<30:
		return 0
	case s.U.Slots > 1<<14:
		return 2
	}
	return len(pack.CapLimits)
}

// Search fills s.best with a placement within tolerance of a lower bound, or as
// near as it gets, and returns the bound. stop is asked between attempts; the
// first is always finished.
func (s *Planner) Search(tolerance float64, stop func() bool) (bound float64) {
	most := len(s.U.Gpu)
	if s.Idle {
		return s.Spread()
	}
	bound = bounds.Speeds(s.Packer, bounds.Replicas(s.Packer))
	goal := bound * (1 + tolerance)
	if pairs.TwoEach(s.Packer) {
		if bound = s.fold.Search(bound, stop); s.Best.Level <= bound*(1+pack.ProvedTolerance) {
			return bound
		}
	}
	if s.Adams(s.U.Slots, most, nil) && s.Pack() {
		s.Swap(goal)
		s.Keep()
	}
	for _, c := range pack.CapLimits[:s.tries()] {
		if s.Best.Level <= goal || stop() {
			break
		}
		if s.Capped(s.U.Slots, most, c*bound) && s.Pack() {
			s.Swap(goal)
			s.Keep()
		}
	}
	if s.Best.Level > goal && !math.IsInf(s.Best.Level, 1) {
		bound = s.sums.RaiseFor(s.Packer, bound)
		if goal = max(goal, bound*(1+tolerance)); s.U.Equal && s.Best.Level > goal {
			s.fold.SearchSums(bound, goal, stop)
		}
	}
	if math.IsInf(s.Best.Level, 1) {
		s.Adams(s.U.Slots, most, nil)
		s.Deal()
		s.Swap(goal)
		s.Keep()
	}
	if s.U.Slots <= shiftSlots {
		s.shiftCounts(goal, stop)
		bound = s.exact.Improve(bound, s.thrift, stop)
	}
	if s.Best.Level > bound*(1+pack.ProvedTolerance) {
		s.anneal(goal, stop)
	}
	return bound
}

// shiftCounts moves one copy from an expert to another and packs anew, over and
// over, and keeps what is better, until the goal is met or no such move helps. Without
// it 16 experts on 8 GPUs of 3 slots stand .2 to .3% higher, 64 on 16 of 5 .02%.
func (s *Planner) shiftCounts(goal float64, stop func() bool) {
	work := shiftWork / s.thrift
	for again := true; again; {
		again = false
		for _, f := range s.Order {
			if s.Best.Count[f] == 1 {
				continue
			}
			for _, e := range s.Order {
				if e == f || int(s.Best.Count[e]) == len(s.U.Gpu) || s.Best.Count[f] == 1 {
					continue
				}
				if work -= s.U.Slots; s.Best.Level <= goal || work < 0 || stop() {
					return
				}
				copy(s.Count, s.Best.Count)
				s.Count[f]--
				s.Count[e]++
				// A replica above the best level cannot be part of a better plan.
				if s.W[f]/float64(s.Count[f]) >= float64(s.Best.Level*s.U.Fastest()) || !s.Pack() {
					continue
				}
				was := s.Best.Level
				s.Swap(goal)
				s.Keep()
				again = again || s.Best.Level < was
			}
		}
	}
}
