package eplb

import "slices"

// adams gives every expert s.least replicas and each further one, up to slots in
// all, to the expert whose replicas carry most (the largest load/count), as
// Adams' method of apportionment does; of equals to the lowest index, and of
// experts without load to the one with fewest replicas. No expert gets more than most. frozen
// experts keep the count they come with. It returns false if the slots cannot
// all be filled. Cost: O(experts + slots·log experts).
func (s *solver) adams(slots, most int, frozen []bool) bool {
	left := slots
	h := s.heap[:0]
	for e := range s.w {
		if frozen == nil || !frozen[e] {
			s.count[e] = s.least
			if most > int(s.least) {
				h = append(h, heapItem{key: s.w[e] / float64(s.least), id: int32(e)})
			}
		}
		left -= int(s.count[e])
	}
	if left < 0 {
		return false
	}
	if left == 0 {
		return true
	}
	before := func(a, b heapItem) bool {
		if a.key != b.key {
			return a.key > b.key
		}
		if ca, cb := s.count[a.id], s.count[b.id]; a.key == 0 && ca != cb {
			return ca < cb
		}
		return a.id < b.id
	}
	// With few copies to give, only the hottest experts can get one.
	if left < len(h)/2 && len(h) == len(s.w) {
		h = h[:0]
		for _, e := range s.order[:left] {
			h = append(h, heapItem{key: s.w[e] / float64(s.least), id: e})
		}
		// Equal loads at the cut are handled by order: it sorts by index too.
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		siftDown(h, i, before)
	}
	for ; left > 0; left-- {
		if len(h) == 0 {
			return false
		}
		e := h[0].id
		s.count[e]++
		if int(s.count[e]) >= most {
			h[0] = h[len(h)-1]
			h = h[:len(h)-1]
		} else {
			h[0].key = s.w[e] / float64(s.count[e])
		}
		if len(h) > 0 {
			siftDown(h, 0, before)
		}
	}
	return true
}

// capLimits are the largest replicas, in units of the mean GPU load, that the
// search tries when Adams' counts do not reach the goal, likeliest first.
var capLimits = []float64{.9, .96, .8, .98, .85, .75, .7, .65, .93, .6}

// capped gives every expert whose load is above limit just as many replicas as
// bring each to at most limit, and shares what is left among the others. Fewer
// copies of the hottest leave room where Adams' counts would force two large
// replicas on one GPU.
func (s *solver) capped(slots, most int, limit float64) bool {
	s.frozen = slices.Grow(s.frozen[:0], len(s.w))[:len(s.w)]
	clear(s.frozen)
	for _, e := range s.order {
		if s.w[e] <= limit {
			break
		}
		n := ceilDiv(s.w[e], limit)
		if n > most {
			return false
		}
		s.count[e] = max(int32(n), s.least)
		s.frozen[e] = true
	}
	return s.adams(slots, most, s.frozen)
}

// ceilDiv is the least n ≥ 1 with a/n ≤ b, in the very arithmetic that later
// divides; it is bounded by 1<<30.
func ceilDiv(a, b float64) int {
	q := a / b
	if !(q < 1<<30) {
		return 1 << 30
	}
	n := max(int(q), 1)
	for a/float64(n) > b {
		n++
	}
	for n > 1 && a/float64(n-1) <= b {
		n--
	}
	return n
}

// bySize lists the experts by the load of one replica, largest first, ties by
// index, in s.ranked. It relies on s.order: only the replicated ones changed
// their place. Cost: O(experts + replicated²).
func (s *solver) bySize() {
	s.multi = s.multi[:0]
	for e := range s.w {
		s.size[e] = s.w[e]
		if c := s.count[e]; c > 1 {
			s.size[e] = s.w[e] / float64(c)
			s.multi = append(s.multi, int32(e))
		}
	}
	before := func(a, b int32) bool {
		if s.size[a] != s.size[b] {
			return s.size[a] > s.size[b]
		}
		return a < b
	}
	if len(s.multi) > 64 {
		slices.SortFunc(s.multi, func(a, b int32) int {
			if before(a, b) {
				return -1
			}
			return 1
		})
	} else {
		for i := 1; i < len(s.multi); i++ {
			for j := i; j > 0 && before(s.multi[j], s.multi[j-1]); j-- {
				s.multi[j], s.multi[j-1] = s.multi[j-1], s.multi[j]
			}
		}
	}
	s.ranked = s.ranked[:0]
	k := 0
	for _, e := range s.order {
		if s.count[e] > 1 {
			continue
		}
		for k < len(s.multi) && before(s.multi[k], e) {
			s.ranked = append(s.ranked, s.multi[k])
			k++
		}
		s.ranked = append(s.ranked, e)
	}
	s.ranked = append(s.ranked, s.multi[k:]...)
}

// heapItem is an entry of the small binary heaps of the search.
type heapItem struct {
	key float64
	id  int32
}

// siftDown restores the heap below i; before says which of two comes first.
func siftDown(h []heapItem, i int, before func(a, b heapItem) bool) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && before(h[c+1], h[c]) {
			c++
		}
		if !before(h[c], h[i]) {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}
