package eplb

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

const (
	// shiftSlots is the most slots of a layer whose counts are searched by
	// packing: beyond, a step costs too much.
	shiftSlots = 128
	// shiftWork ends that search, in slots packed: a millisecond or two.
	shiftWork = 1 << 16
	// shakeWork ends the random one: less than a millisecond.
	shakeWork = 1 << 14
	// manyLayers is how many layers may each take all of that; more share it.
	manyLayers = 256
)

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

// improveSmall is what search ends with. Where packing found nothing it deals;
// a small layer that has not met its bound is searched exhaustively as far as
// that goes. It returns the bound, raised where the search came to its end.
func (s *solver) improveSmall(bound, goal float64, stop func() bool) float64 {
	if math.IsInf(s.best.level, 1) {
		s.adams(s.u.slots, len(s.u.gpu), nil)
		s.deal()
		s.swap(goal)
		s.keep()
	}
	if s.u.slots > shiftSlots {
		return bound
	}
	if s.best.level > goal && !stop() && s.adams(s.u.slots, len(s.u.gpu), nil) && s.packSingly() {
		s.swap(goal)
		s.keep()
	}
	s.shiftCounts(goal, stop)
	if bound = s.improveExactly(bound, stop); s.best.level > bound*(1+provedTolerance) {
		s.shake(goal, stop)
	}
	return bound
}

// packSingly is pack replica by replica: of replicas of one size the first of
// each expert comes before any second. Where many experts are alike this
// mingles them, which packing them one after another does not.
func (s *solver) packSingly() bool {
	u := s.u
	for e, w := range s.w {
		s.size[e] = w / float64(s.count[e])
	}
	for g := range u.speed {
		s.load[g], s.used[g] = 0, int32(u.first[g])
	}
	clear(s.has)
	s.single = s.single[:0]
	for e, c := range s.count {
		for k := range c {
			s.single = append(s.single, heapItem{key: float64(k), id: int32(e)})
		}
	}
	slices.SortFunc(s.single, func(a, b heapItem) int {
		return cmp.Or(cmp.Compare(s.size[b.id], s.size[a.id]), cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id))
	})
	for _, it := range s.single {
		if g := s.lightestFor(it.id); g >= 0 {
			s.put(it.id, g)
		} else if !s.squeeze(it.id) {
			return false
		}
	}
	return true
}

// shiftCounts moves one copy from an expert to another and packs anew, over and
// over, and keeps what is better, until the goal is met or no such move helps.
func (s *solver) shiftCounts(goal float64, stop func() bool) {
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

// shake exchanges a few replicas of the best placement at random and descends
// anew, over and over, until the goal is met or the work is spent. The draws
// are the same for every layer.
func (s *solver) shake(goal float64, stop func() bool) {
	s.draw.Seed(1, 2)
	r := rand.New(&s.draw)
	for work := shakeWork / s.thrift; work > 0 && s.best.level > goal && !stop(); {
		work -= 2 * s.u.slots
		s.restore()
		for range 2 + r.IntN(3) {
			a, b := r.IntN(len(s.u.gpu)), r.IntN(len(s.u.gpu))
			if a == b || s.u.room(a) == 0 || s.u.room(b) == 0 {
				continue
			}
			i, j := s.u.first[a]+r.IntN(s.u.room(a)), s.u.first[b]+r.IntN(s.u.room(b))
			if s.holds(a, s.slot[j]) || s.holds(b, s.slot[i]) {
				continue
			}
			s.exchange(a, i, b, j)
		}
		s.swap(goal)
		s.keep()
	}
}

// restore makes the best placement the one at hand.
func (s *solver) restore() {
	copy(s.count, s.best.count)
	copy(s.slot, s.best.slot)
	for e, w := range s.w {
		s.size[e] = w / float64(s.count[e])
	}
	clear(s.has)
	for g := range s.u.gpu {
		for i := s.u.first[g]; i < s.u.first[g+1]; i++ {
			e := s.slot[i]
			s.sz[i] = s.size[e]
			s.has[g*s.words+int(e>>6)] |= 1 << (e & 63)
		}
	}
	s.refresh()
}
