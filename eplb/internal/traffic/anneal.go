package traffic

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

// smallSlots is up to how many slots a layer counts as small: its replicas are large, and
// what is even may lie far apart.
const smallSlots = 32

// cool tries so many changes in each of some stages, took called after each that is made,
// and adds levels up anew. From one to the next heat cools, load above even grows dear, and
// done may end it, as stop does.
func (s *state) cool(stages, tries int, cooling, dearing float64, took func(), done func() bool) {
	for range stages {
		for range tries {
			if s.try(s.draw(), float64(s.heat*search.Unlikely(s.rng.Uint64()))) {
				took()
			}
		}
		if s.Refresh(); s.stop() || done() {
			return
		}
		s.heat *= cooling
		s.dear *= dearing
	}
}

// none is a slot with itself: no change.
var none search.Change

// draw is a random change, rather of a GPU that is too full or, where it counts what tokens
// visit, rather one that brings together two experts that a random token chose; it may come
// upon none.
func (s *state) draw() search.Change {
	if s.visits() && s.below(4) > 0 {
		c := none
		for n := 0; n < 4 && c == none; n++ {
			c = s.unite(s.tokens.any(s.rng.Uint64()))
		}
		return c
	}
	i := s.any()
	for n := 0; n < 2 && s.above(s.GPU(i)) == 0; n++ {
		i = s.any()
	}
	switch s.below(8) {
	case 0: // another expert in its place
		return search.Change{A: s.spare(i), B: -1, E: int32(s.below(s.y.Experts))}
	case 1, 2: // its expert elsewhere too
		return search.Change{A: s.spare(s.any()), B: -1, E: s.Slots()[i]}
	}
	return search.Change{A: i, B: s.any()}
}

// unite is that one of two experts of token n comes to a node of the other; none where they
// are on one.
func (s *state) unite(n int32) search.Change {
	token := s.tokens.of(n)
	a, b := int32(token[s.below(len(token))]), int32(token[s.below(len(token))])
	if s.tokens.nodes[n] < 2 || s.on[a]&s.on[b] != 0 || s.on[a] == 0 || s.on[b] == 0 {
		return none
	}
	node := s.y.Node[s.GPU(s.replica(b))]
	from, _ := slices.BinarySearch(s.y.Node, node)
	first, end := s.y.First[from], s.y.First[from+s.gpus[node]]
	to := int32(first + s.below(end-first))
	if s.below(3) == 0 {
		return search.Change{A: to, B: -1, E: a}
	}
	return search.Change{A: s.replica(a), B: to}
}

// spare is slot i or, rather than one whose expert has no other replica, a random one.
func (s *state) spare(i int32) int32 {
	for n := 0; n < 2 && s.Slots()[i] >= 0 && s.Counts()[s.Slots()[i]] < 2; n++ {
		i = s.any()
	}
	return i
}

// replica is a random slot of expert e.
func (s *state) replica(e int32) int32 { return s.At(e)[s.below(len(s.At(e)))] }

// any is a random slot.
func (s *state) any() int32 { return int32(s.below(len(s.Slots()))) }

// below is a random number below n.
func (s *state) below(n int) int { return int(s.rng.Uint64() >> 32 * uint64(n) >> 32) }

// Schedule of Regroup. Temperatures are in nodes a token, relative to K/experts,
// which is what moving one expert is about worth; the price of load above even
// rises while they fall.
const (
	stages     = 64
	hot        = .12
	cooling    = .92683 // hot/120 at the last stage
	cheap      = .05
	dearing    = 1.0672 // dear at the last stage
	dear       = 60 * cheap
	lateStages = 48 // where nothing was within: the price rises on
	slotTries  = 350
	leastTries = 60000
	tokenTries = 1 << 29 // bounds tries times tokens times K
	runs       = 3       // of small layers
)

// Regroup changes a placement so that tokens visit fewer nodes, by annealing: of
// the exchanges of two slots and the replacements of a redundant replica that it
// tries, three in four bring together two experts that a random token chose. slot
// is the expert in each slot, -1 = empty, within y.Most; it becomes the best that
// was found within. y has tokens, and more than one node.
//
// Cost: some 10 microseconds a try, 350 tries a slot; stop is asked now and then.
func Regroup(y *Layer, slot []int32, stop func() bool) {
	t := y.Tokens
	s := newState(y, slot, 1, stop)
	given, best, seen := slices.Clone(slot), 0.0, false
	took := func() {
		if s.worth < best && y.Within(&s.State) {
			best, seen = s.worth, true
			copy(slot, s.Slots())
		}
	}
	tries := min(max(leastTries, slotTries*len(slot)), tokenTries/(2*len(t.IDs)*t.K/y.Experts+1))/stages + 1
	unit := hot * float64(t.K) / float64(y.Experts)
	for run := range runs {
		if run > 0 {
			if len(slot) > smallSlots || stop() {
				break
			}
			unit *= 4
			s.place(given)
		}
		s.heat, s.dear = unit, cheap
		s.cool(stages, tries, cooling, dearing, took, func() bool { return false })
		if !seen && !y.Within(&s.State) && !stop() {
			s.cool(lateStages, tries, 1, dearing*dearing, took, func() bool { return seen })
		}
	}
}

// Schedule of EvenOut: temperatures are in load/speed.
const (
	evenStages = 48
	evenHot    = .03
	evenCool   = .88 // evenHot/460 at the last stage
	evenTries  = 220 // a slot
	leastEven  = 20000
	smallHeat  = 10 // of small layers
	moveWorth  = 1e-3
	sinking    = .5
	evenRuns   = 4  // while the level is above aim by more than this factor
	evenFar    = 10 // the second run is hotter where what the first found is far from even
	enough     = 1.004
)

// EvenOut changes a placement such that the fullest GPU has less to do, by
// annealing: what counts is load above a threshold, which sinks halfway to the mean
// whenever the best so far comes nearer. slot becomes the best found: of least mean
// over the windows of the level of the fullest GPU or, once that is within aim, of
// fewest moves. It returns that mean. y.Tokens, y.Even and y.Most are not looked at.
//
// Cost: some microseconds a try, 220 tries a slot, fewer where it is even at once.
func EvenOut(y *Layer, slot []int32, aim float64, stop func() bool) float64 {
	bare := *y
	bare.Tokens, bare.Even, bare.MovePrice = nil, make([]float64, len(y.Share)), 0
	if y.Prev != nil {
		bare.MovePrice = moveWorth
	}
	s := newState(&bare, slot, 3, stop)
	given := slices.Clone(slot)
	best, moves := s.Time(), s.Moves()
	sink := func() {
		for k := range s.even {
			s.even[k] = max(1+float64(sinking*(s.Top(k)-1)), min(aim, s.Top(k)))
		}
	}
	took := func() {
		l := s.Time()
		if l < best && best > aim || l <= aim && s.Moves() < moves {
			best, moves = l, s.Moves()
			copy(slot, s.Slots())
			sink()
		}
	}
	done := func() bool { return best <= aim && moves == 0 }
	sink()
	tries := max(leastEven, evenTries*len(slot))/evenStages + 1
	for run := range evenRuns {
		if run > 0 && (best <= max(aim, 1)*enough || done() || stop()) {
			break
		}
		switch run {
		case 0:
		case 1:
			s.place(given)
		default:
			s.place(slot)
		}
		s.dear, s.heat = 1, evenHot*[evenRuns]float64{1, max(1, evenFar*(best-1)), .3, .1}[run]
		if len(slot) <= smallSlots {
			s.heat *= smallHeat
		}
		s.cool(evenStages, tries, evenCool, 1, took, done)
	}
	return best
}
