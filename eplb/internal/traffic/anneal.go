package traffic

import (
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

// smallSlots is up to how many slots a layer counts as small: its replicas are large, and
// what is even may lie far apart.
const smallSlots = 32

// annealing changes a state at random.
type annealing struct {
	*state
	rng    rand.PCG
	heat   float64 // what a change may harm
	dear   float64 // of load above even
	move   float64 // of a move
	stop   func() bool
	first  []int     // node n has the slots [first[n], first[n+1])
	levels []float64 // of the placement that was looked at last
}

func newAnnealing(y *Layer, slot []int32, seed uint64, stop func() bool) *annealing {
	s := &annealing{state: newState(y, slot), move: y.MovePrice, stop: stop, first: make([]int, y.Nodes+1), levels: make([]float64, len(y.Share))}
	for g, n := range y.Node {
		s.first[n+1] = y.First[g+1]
	}
	for n := range y.Nodes { // which may have no GPU in service
		s.first[n+1] = max(s.first[n+1], s.first[n])
	}
	s.rng.Seed(seed, seed+1)
	return s
}

// cool tries so many changes in each of some stages, took called after each that is made,
// and counts anew. From one to the next heat cools, load above even grows dear, and done
// may end it, as stop does.
func (s *annealing) cool(stages, tries int, cooling, dearing float64, took func(), done func() bool) {
	for range stages {
		for range tries {
			if s.propose() && s.try(float64(s.heat*search.Unlikely(s.rng.Uint64()))) {
				took()
			}
		}
		if s.reload(); s.stop() || done() {
			return
		}
		s.heat *= cooling
		s.dear *= dearing
	}
}

// try makes the change that was prepared unless it harms by more than room.
func (s *annealing) try(room float64) bool {
	over, price := s.weigh()
	cost := float64(s.dear*over) + float64(s.move*float64(s.cost)) + price
	if s.visits() {
		most := int64(float64((room-cost)*s.one)) + 1 // whatever rounding does
		cost += float64(s.tokens.weigh(&s.change, most)) / s.one
	}
	if cost > room {
		return false
	}
	s.apply(over, price)
	return true
}

// propose prepares a random change, rather of a GPU that is too full or, where it counts
// what tokens visit, rather one of two experts that tokens choose; false = it came upon
// none.
func (s *annealing) propose() bool {
	if s.visits() && s.below(4) > 0 {
		return s.unite()
	}
	i := s.any()
	for n := 0; n < 2 && s.above(int(s.gpu[i]), 0, 0) == 0; n++ {
		i = s.any()
	}
	switch s.below(8) {
	case 0: // another expert in its place
		return s.replace(s.spare(i), int32(s.below(s.y.Experts)))
	case 1, 2: // its expert elsewhere too
		return s.replace(s.spare(s.any()), s.slot[i])
	}
	return s.exchange(i, s.any())
}

// unite prepares that one of two experts that a random token chose comes to a
// node of the other.
func (s *annealing) unite() bool {
	for range 4 {
		n := s.tokens.any(s.rng.Uint64())
		token := s.y.Tokens.of(n)
		a, b := int32(token[s.below(len(token))]), int32(token[s.below(len(token))])
		if s.tokens.nodes[n] < 2 || s.on[a]&s.on[b] != 0 || s.on[a] == 0 || s.on[b] == 0 {
			continue
		}
		node := s.y.Node[s.gpu[s.replica(b)]]
		to := s.first[node] + s.below(s.first[node+1]-s.first[node])
		if s.below(3) == 0 {
			return s.replace(to, a)
		}
		return s.exchange(s.replica(a), to)
	}
	return false
}

// spare is slot i or, rather than one whose expert has no other replica, a random one.
func (s *annealing) spare(i int) int {
	for n := 0; n < 2 && s.slot[i] >= 0 && s.keeps.Counts()[s.slot[i]] < 2; n++ {
		i = s.any()
	}
	return i
}

// exchange prepares that slots i and j change their experts; false = they may not.
func (s *annealing) exchange(i, j int) bool {
	return s.prepare(search.Change{A: int32(i), B: int32(j), E: -1})
}

// replace prepares that slot i holds expert e in place of its own; false = it may not.
func (s *annealing) replace(i int, e int32) bool {
	return s.prepare(search.Change{A: int32(i), B: -1, E: e})
}

// replica is a random slot of expert e.
func (s *annealing) replica(e int32) int {
	at := s.keeps.At(e)
	return int(at[s.below(len(at))])
}

// any is a random slot.
func (s *annealing) any() int { return s.below(len(s.slot)) }

// below is a random number below n.
func (s *annealing) below(n int) int { return int(s.rng.Uint64() >> 32 * uint64(n) >> 32) }

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
	s := newAnnealing(y, slot, 1, stop)
	given, best, seen := slices.Clone(slot), s.worth(), false
	within := func() bool {
		s.level(s.levels)
		return y.Within(s.levels)
	}
	took := func() {
		if w := s.worth(); w < best && within() {
			best, seen = w, true
			copy(slot, s.slot)
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
		if !seen && !within() && !stop() {
			s.cool(lateStages, tries, 1, dearing*dearing, took, func() bool { return seen })
		}
	}
}

// worth is what is to be least: nodes a token, and what else has a price.
func (s *annealing) worth() float64 {
	return float64(s.tokens.total)/s.one + float64(dear*s.over) + float64(s.move*float64(s.keeps.Moves())) + s.price
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
	s := newAnnealing(&bare, slot, 3, stop)
	given := slices.Clone(slot)
	best, moves := s.level(s.levels), s.keeps.Moves()
	sink := func() {
		for k, x := range s.levels {
			s.even[k] = max(1+float64(sinking*(x-1)), min(aim, x))
		}
		s.reload()
	}
	took := func() {
		l := s.level(s.levels)
		if l < best && best > aim || l <= aim && s.keeps.Moves() < moves {
			best, moves = l, s.keeps.Moves()
			copy(slot, s.slot)
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
