package traffic

import (
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

// Schedules of Regroup. Temperatures are in nodes a token, relative to K/experts,
// which is what moving one expert is about worth; the price of load above even
// rises while they fall.
const (
	stages     = 64
	hot        = .12
	cooling    = .92683 // hot/120 at the last stage
	cheap      = .05
	dearing    = 1.0672 // cheap*60 at the last stage
	lateStages = 48     // where nothing was within: the price rises on
	slotTries  = 350
	leastTries = 60000
	tokenTries = 1 << 29 // bounds tries times tokens times K
	smallSlots = 32      // up to which a layer is annealed so many times
	runs       = 3
)

// Regroup changes a placement so that tokens visit fewer nodes, by annealing: of
// the exchanges of two slots and the replacements of a redundant replica that it
// tries, three in four bring together two experts that a random token chose. slot
// is the expert in each slot, -1 = empty, within y.Most; it becomes the best that
// was found within. y has tokens, and
// more than one node.
//
// Cost: some 10 microseconds a try, 350 tries a slot; stop is asked now and then.
func Regroup(y *Layer, slot []int32, stop func() bool) {
	s := newAnnealing(y, slot, 1)
	s.final = cheap
	for range stages - 1 {
		s.final *= dearing
	}
	s.best = s.worth()
	unit := hot * float64(y.Tokens.K) / float64(y.Experts)
	s.anneal(unit, stop)
	for run := 1; run < runs && len(slot) <= smallSlots && !stop(); run++ {
		unit *= 4 // what is even may lie far apart
		s.place(slot)
		s.anneal(unit, stop)
	}
}

// anneal anneals from the state at hand.
func (s *annealing) anneal(temperature float64, stop func() bool) {
	t := s.y.Tokens
	tries := max(leastTries, slotTries*len(s.slot))
	tries = min(tries, tokenTries/(2*len(t.IDs)*t.K/len(s.at)+1))
	s.price = cheap
	for stage := range stages + lateStages {
		if stage >= stages && (s.seen || stage == stages && s.within()) {
			break
		}
		s.tryAll(tries/stages+1, temperature, func() {
			if w := s.worth(); w < s.best && s.within() {
				s.best, s.seen = w, true
				copy(s.slots, s.slot)
			}
		})
		if stop() {
			break
		}
		s.price *= dearing
		if stage < stages {
			temperature *= cooling
		} else {
			s.price *= dearing
		}
	}
}

// annealing changes a state at random.
type annealing struct {
	*state
	rng    rand.PCG
	price  float64 // of load above even
	move   float64 // of a move
	final  float64 // price of load above even in what is worth most
	best   float64
	slots  []int32 // of the best
	seen   bool    // a better one than the first was
	levels []float64
}

// newAnnealing starts from slot, which the best is to become.
func newAnnealing(y *Layer, slot []int32, seed uint64) *annealing {
	s := &annealing{state: newState(y, slot), slots: slot, move: y.MovePrice, levels: make([]float64, len(y.Share))}
	s.rng.Seed(seed, seed+1)
	return s
}

// worth is what is to be least: nodes a token, and what else has a price.
func (s *annealing) worth() float64 {
	w := float64(s.tokens.total)/s.one + float64(s.final*s.over) + float64(s.move*float64(s.keeps.Moves()))
	if s.risk != nil {
		w += float64(s.y.RiskPrice * s.risk.value)
	}
	return w
}

// within says whether no GPU is above the most that it may carry.
func (s *annealing) within() bool {
	s.level(s.levels)
	return s.y.Within(s.levels)
}

// tryAll tries so many changes, calls made after each that is made, and counts anew.
func (s *annealing) tryAll(n int, temperature float64, made func()) {
	for range n {
		if s.propose() && s.try(temperature*search.Unlikely(s.rng.Uint64())) {
			made()
		}
	}
	s.reload()
}

// try makes the change that was prepared unless it harms by more than room.
func (s *annealing) try(room float64) bool {
	over := s.weigh()
	cost := float64(s.price*over) + float64(s.move*float64(s.cost))
	if s.risk != nil {
		cost += float64(s.y.RiskPrice * s.risk.weigh())
	}
	if s.tokens != nil {
		most := int64(float64((room-cost)*s.one)) + 1 // whatever rounding does
		cost += float64(float64(s.tokens.weigh(&s.change, most)) * (1 / s.one))
	}
	if cost > room {
		return false
	}
	s.apply(over)
	return true
}

// propose prepares a random change; false = it came upon none.
func (s *annealing) propose() bool {
	if s.tokens == nil {
		return s.ease()
	}
	if !s.y.PerExpert && s.below(4) > 0 {
		return s.unite()
	}
	i := s.below(len(s.slot))
	if s.below(4) == 0 {
		return s.replace(i, int32(s.below(len(s.at))))
	}
	return s.exchange(i, s.below(len(s.slot)))
}

// unite prepares that one of two experts that a random token chose comes to a
// node of the other.
func (s *annealing) unite() bool {
	t := s.y.Tokens
	for range 4 {
		n := s.anyToken()
		if s.tokens.nodes[n] < 2 {
			continue
		}
		token := t.of(n)
		a, b := token[s.below(t.K)], token[s.below(t.K)]
		if s.on[a]&s.on[b] != 0 || s.on[a] == 0 || s.on[b] == 0 {
			continue
		}
		nodes := s.on[b]
		for range s.below(bits.OnesCount64(nodes)) {
			nodes &= nodes - 1
		}
		lo, _ := slices.BinarySearch(s.y.Node, bits.TrailingZeros64(nodes))
		hi, _ := slices.BinarySearch(s.y.Node, bits.TrailingZeros64(nodes)+1)
		to := s.y.First[lo] + s.below(s.y.First[hi]-s.y.First[lo])
		if s.below(3) == 0 {
			return s.replace(to, int32(a))
		}
		g := s.at[a][s.below(len(s.at[a]))]
		i := s.y.First[g] + slices.Index(s.slot[s.y.First[g]:s.y.First[g+1]], int32(a))
		return s.exchange(i, to)
	}
	return false
}

// anyToken is a random token, by weight.
func (s *annealing) anyToken() int32 {
	v := s.tokens
	if v.upTo == nil {
		return int32(s.below(v.t.Len()))
	}
	x := int64(float64(s.rng.Uint64()>>11) / (1 << 53) * float64(v.upTo[len(v.upTo)-1]))
	n, _ := slices.BinarySearch(v.upTo, x+1)
	return int32(min(n, v.t.Len()-1))
}

// below is a random number below n.
func (s *annealing) below(n int) int { return int(s.rng.Uint64() >> 32 * uint64(n) >> 32) }
