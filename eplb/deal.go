package eplb

import "slices"

// deal fills the slots whatever the loads, for the rare layer where packing by
// size came to a dead end: experts by count, most first, each on the GPUs with
// most room left, the lightest of them. Rooms differ by at most one here or are
// full of all experts, and then this never fails: the set of rooms left stays
// as even as can be.
func (s *solver) deal() {
	u := s.u
	s.bySize()
	slices.SortStableFunc(s.ranked, func(a, b int32) int { return int(s.count[b]) - int(s.count[a]) })
	gpus := make([]int, len(u.gpu))
	for g := range u.gpu {
		gpus[g] = g
		s.load[g], s.used[g] = 0, int32(u.first[g])
	}
	clear(s.has)
	for _, e := range s.ranked {
		slices.SortFunc(gpus, func(a, b int) int {
			if ra, rb := u.first[a+1]-int(s.used[a]), u.first[b+1]-int(s.used[b]); ra != rb {
				return rb - ra
			}
			if la, lb := float64(s.load[a]*u.speed[b]), float64(s.load[b]*u.speed[a]); la != lb {
				if la < lb {
					return -1
				}
				return 1
			}
			return a - b
		})
		for _, g := range gpus[:s.count[e]] {
			s.put(e, g)
		}
	}
}

// spread places a layer without load: as many replicas of each expert as of any
// other, or one more. Its imbalance is 1 by definition.
func (s *solver) spread() float64 {
	s.adams(s.u.slots, len(s.u.gpu), nil)
	if !s.pack() {
		s.deal()
	}
	s.keep()
	s.best.level = 1
	return 1
}
