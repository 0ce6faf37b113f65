package pack

// Plan packs Adams' counts and so many capped ones, and evens each out by exchanges,
// until a placement is within goal; the best is kept. stop is asked between them: the
// first is always finished. No placement is below bound.
func (s *Packer) Plan(bound, goal float64, tries int, stop func() bool) {
	for i := -1; i < tries; i++ {
		if s.CountBy(i, bound) {
			s.Pack()
			s.Swap(goal)
			s.Keep()
		}
		if s.Best.Level <= goal || stop() {
			return
		}
	}
}

// mostShifted is how many experts, the hottest, may get a copy more.
const mostShifted = 16

// ShiftCounts moves one copy from an expert to another and packs anew, over and
// over, and keeps what is better, until the goal is met, no such move helps or so many
// slots were packed. Without it 16 experts on 8 GPUs of 3 slots stand .2 to .3% higher,
// 64 on 16 of 5 .03%, 64 on a node of 8 GPUs of 9 .6%.
func (s *Packer) ShiftCounts(goal float64, work int, stop func() bool) {
	for again := true; again; {
		again = false
		for _, f := range s.Order {
			if s.Best.Count[f] == 1 {
				continue
			}
			for _, e := range s.Order[:min(len(s.Order), mostShifted)] {
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
				if s.W[f]/float64(s.Count[f]) >= float64(s.Best.Level*s.U.Fastest()) {
					continue
				}
				was := s.Best.Level
				s.Pack()
				s.Swap(goal)
				s.Keep()
				again = again || s.Best.Level < was
			}
		}
	}
}
