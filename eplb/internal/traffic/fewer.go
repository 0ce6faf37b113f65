package traffic

// Schedule of Fewer: temperatures are in load/speed. A move costs so many times the
// temperature that moves which no load asks for stay rare, and so much at least.
const (
	fewerStages = 60
	fewerHot    = .03
	fewerCool   = .92 // fewerHot/137 at the last stage
	fewerPrice  = 12
	fewerLeast  = .02
	fewerTries  = 8000    // a slot
	mostFewer   = 3 << 20 // in all, shared by the windows
	soon        = 12      // draws
)

// Fewer changes a placement such that the fullest GPU is within aim, in the mean of
// the windows, at fewer moves from y.Was than most, by annealing: what comes to GPUs
// that were empty costs a move whatever it is. slot becomes the best found or, where there
// is none, what the annealing ended at, which is nearly so. It ends at so many
// moves as are a must.
// y.Even, y.Most and y.Moves are not looked at.
//
// Cost: a tenth of a microsecond a try, half of which no load asks for, 8,000 tries
// a slot.
func Fewer(u *Unit, y *Layer, slot []int32, aim float64, least, most int, stop func() bool) {
	even := *y
	even.Tokens, even.Moves, even.Even = nil, len(slot), make([]float64, len(y.Loads))
	for k := range even.Even {
		even.Even[k] = aim
	}
	s := &search{state: newState(u, &even, slot)}
	s.rng.Seed(5, 6)
	levels := make([]float64, s.windows)
	better := false
	temperature := fewerHot
	tries := min(fewerTries*len(slot), mostFewer/s.windows)
	for range fewerStages {
		for range tries/fewerStages + 1 {
			if most <= least {
				return
			}
			if s.tryFewer(temperature) && s.moves < most && s.levels(levels) <= aim {
				most, better = s.moves, true
				copy(slot, s.slot)
			}
		}
		if stop() {
			break
		}
		s.reload()
		temperature *= fewerCool
	}
	if !better {
		copy(slot, s.slot)
	}
}

// tryFewer tries one change and says whether it was made.
func (s *search) tryFewer(temperature float64) bool {
	room := temperature * s.exponential()
	price := max(fewerPrice*temperature, fewerLeast)
	i, j := s.below(len(s.slot)), -1
	ok := false
	switch s.below(6) {
	case 0:
		ok = s.replace(i, int32(s.below(len(s.at))))
	case 1: // its expert elsewhere too
		e := s.slot[i]
		i = s.below(len(s.slot))
		ok = e >= 0 && s.replace(i, e)
	case 2, 3:
		return s.giveBack(s.come(i), room, price)
	case 4: // what came, elsewhere
		i, j = s.come(i), s.come(s.below(len(s.slot)))
		ok = s.exchange(i, j)
	default:
		j = s.below(len(s.slot))
		ok = s.exchange(i, j)
	}
	if !ok {
		return false
	}
	moves := price * float64(s.cost(i, j))
	if moves > room && s.over == 0 {
		return false
	}
	over := s.weigh()
	if over+moves > room {
		return false
	}
	s.apply(i, j, over)
	return true
}

// come is a random slot that holds what was not on its GPU or, where none is soon
// found, slot i.
func (s *search) come(i int) int {
	for range soon {
		if x := s.below(len(s.slot)); s.slot[x] >= 0 && s.moved(s.gpu[x], s.slot[x]) > 0 {
			return x
		}
	}
	return i
}

// gone is a random expert of those that GPU g had and has no more; -1 = none.
func (s *search) gone(g int32) int32 {
	x, n := int32(-1), 0
	for _, e := range s.y.Was[s.u.First[g]:s.u.First[g+1]] {
		if e >= 0 && !s.holds(g, e) {
			if n++; s.below(n) == 0 {
				x = e
			}
		}
	}
	return x
}

// giveBack tries that slot i holds again what its GPU had. Where what it holds is the
// only replica, that comes first to a slot that can do without its own.
func (s *search) giveBack(i int, room, price float64) bool {
	g, e := s.gpu[i], s.slot[i]
	x := s.gone(g)
	if e < 0 || x < 0 || s.moved(g, e) == 0 {
		return false
	}
	j, f, over := -1, int32(0), 0.0
	if len(s.at[e]) == 1 {
		j = s.below(len(s.slot))
		if f = s.slot[j]; !s.replace(j, e) {
			return false
		}
		room -= price * float64(s.cost(j, -1))
		over = s.weigh()
		s.apply(j, -1, over)
	}
	if s.replace(i, x) {
		room -= price * float64(s.cost(i, -1))
		if more := s.weigh(); over+more <= room {
			s.apply(i, -1, more)
			return true
		}
	}
	if j >= 0 && s.replace(j, f) {
		s.apply(j, -1, s.weigh())
	}
	return false
}
