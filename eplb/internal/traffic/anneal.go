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
// was found within. Of tokens without visits, or on one node, nothing is done.
//
// Cost: some 10 microseconds a try, 350 tries a slot; stop is asked now and then.
func Regroup(y *Layer, slot []int32, stop func() bool) {
	if y.Tokens == nil || y.Tokens.Len() == 0 || y.Nodes < 2 {
		return
	}
	s := &annealing{state: newState(y, slot)}
	if y.RiskPrice > 0 {
		s.risk = newRisk(s.state)
	}
	s.rng.Seed(1, 2)
	s.final = cheap
	for range stages - 1 {
		s.final *= dearing
	}
	s.best, s.slots = s.worth(), slot
	unit := hot * float64(y.Tokens.K) / float64(len(s.at))
	s.anneal(unit, stop)
	if len(slot) > smallSlots {
		return
	}
	for range runs - 1 { // hotter: what is even may lie far apart
		if stop() {
			return
		}
		unit *= 4
		s.place(slot)
		if s.risk != nil {
			s.risk.count()
		}
		s.anneal(unit, stop)
	}
}

// anneal anneals from the state at hand.
func (s *annealing) anneal(temperature float64, stop func() bool) {
	t := s.y.Tokens
	tries := max(leastTries, slotTries*len(s.slot))
	tries = min(tries, tokenTries/(2*len(t.IDs)*t.K/len(s.at)+1))
	price := cheap
	for stage := range stages + lateStages {
		if stage >= stages && (s.seen || stage == stages && s.within()) {
			break
		}
		for range tries/stages + 1 {
			if !s.try(temperature, price) {
				continue
			}
			if w := s.worth(); w < s.best && s.within() {
				s.best, s.seen = w, true
				copy(s.slots, s.slot)
			}
		}
		if stop() {
			break
		}
		s.reload()
		if s.risk != nil {
			s.risk.count()
		}
		price *= dearing
		if stage < stages {
			temperature *= cooling
		} else {
			price *= dearing
		}
	}
}

// annealing changes a state at random.
type annealing struct {
	*state
	rng   rand.PCG
	risk  *risk   // nil = unknown
	final float64 // price of load above even in what is worth most
	best  float64
	slots []int32 // of the best
	seen  bool    // a better one than the first was
}

// worth is what is to be least: nodes a token, and what else has a price.
func (s *annealing) worth() float64 {
	return float64(s.tokens.total)/s.tokens.one() + float64(s.final*s.over) + float64(s.y.MovePrice*float64(s.keeps.Moves())) + s.risked()
}

// risked is the price of the risk at hand.
func (s *annealing) risked() float64 {
	if s.risk == nil {
		return 0
	}
	return s.y.RiskPrice * s.risk.value
}

// try tries one change and says whether it was made.
func (s *annealing) try(temperature, price float64) bool {
	if !s.propose() {
		return false
	}
	room := temperature * s.unlikely()
	over := s.weigh()
	cost := price * over
	cost += float64(s.y.MovePrice * float64(s.cost))
	if s.risk != nil {
		cost += float64(s.y.RiskPrice * s.risk.weigh())
	}
	one := s.tokens.one()
	most := int64(float64((room-cost)*one)) + 1 // whatever rounding does
	if cost+float64(float64(s.tokens.weigh(&s.change, most))*(1/one)) > room {
		return false
	}
	s.apply(over)
	if s.risk != nil {
		s.risk.value += s.risk.delta
	}
	return true
}

// propose prepares a random change; false = it came upon none.
func (s *annealing) propose() bool {
	if s.tokens.gpus == nil && s.below(4) > 0 {
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
		node := bits.TrailingZeros64(nodes)
		lo, hi := s.upTo[node], s.upTo[node+1]
		to := lo + s.below(hi-lo)
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
	x := int64(float64(s.rng.Uint64()>>11) / (1 << 53) * float64(v.weight))
	n, _ := slices.BinarySearch(v.upTo, x+1)
	return int32(min(n, v.t.Len()-1))
}

// below is a random number below n.
func (s *annealing) below(n int) int { return int(s.rng.Uint64() >> 32 * uint64(n) >> 32) }

// unlikely is how much a change may harm, in units of the temperature: seldom much.
func (s *annealing) unlikely() float64 { return search.Unlikely(s.rng.Uint64()) }
