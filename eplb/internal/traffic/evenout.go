package traffic

import "slices"

// Schedule of EvenOut: temperatures are in load/speed.
const (
	evenStages = 48
	evenHot    = .03
	evenCool   = .88 // evenHot/460 at the last stage
	evenTries  = 220 // a slot
	leastEven  = 20000
	smallHeat  = 10 // of small layers, whose replicas are large
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
	bare.Tokens, bare.Even = nil, nil
	s := newAnnealing(&bare, slot, 3)
	given := slices.Clone(slot)
	best, moves := s.level(s.levels), s.keeps.Moves()
	s.sink(aim)
	if s.price, s.move = 1, 0; y.Prev != nil {
		s.move = moveWorth
	}
	tries := max(leastEven, evenTries*len(slot))
	for run := range evenRuns {
		switch {
		case run > 0 && best <= max(aim, 1)*enough:
			return best
		case run == 1:
			s.place(given)
		case run > 1:
			s.place(slot)
		}
		temperature := evenHot * [evenRuns]float64{1, max(1, evenFar*(best-1)), .3, .1}[run]
		if len(slot) <= smallSlots {
			temperature *= smallHeat
		}
		for range evenStages {
			s.tryAll(tries/evenStages+1, temperature, func() {
				l := s.level(s.levels)
				if l < best && best > aim || l <= aim && s.keeps.Moves() < moves {
					best, moves = l, s.keeps.Moves()
					copy(slot, s.slot)
					s.sink(aim)
				}
			})
			if best <= aim && moves == 0 || stop() {
				return best
			}
			temperature *= evenCool
		}
	}
	return best
}

// sink sets the thresholds halfway between the mean and the levels at hand, but not
// below aim.
func (s *annealing) sink(aim float64) {
	for k, x := range s.levels {
		s.even[k] = max(1+float64(sinking*(x-1)), min(aim, x))
	}
	s.reload()
}

// ease prepares a random change, rather of a GPU that is too full.
func (s *annealing) ease() bool {
	i := s.below(len(s.slot))
	for range 2 {
		if s.above(int(s.gpu[i]), nil) > 0 {
			break
		}
		i = s.below(len(s.slot))
	}
	switch s.below(8) {
	case 0: // another expert in its place
		return s.replace(s.spare(i), int32(s.below(len(s.at))))
	case 1, 2: // its expert elsewhere too
		e := s.slot[i]
		return e >= 0 && s.replace(s.spare(s.below(len(s.slot))), e)
	}
	return s.exchange(i, s.below(len(s.slot)))
}

// spare is slot i or, rather than one whose expert has no other replica, a random one.
func (s *annealing) spare(i int) int {
	for range 2 {
		if e := s.slot[i]; e >= 0 && len(s.at[e]) > 1 {
			break
		}
		i = s.below(len(s.slot))
	}
	return i
}
