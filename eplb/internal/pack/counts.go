package pack

import "slices"

// Adams gives every expert s.least replicas and each further one, up to slots in
// all, to the expert whose replicas carry most (the largest load/count), as
// Adams' method of apportionment does; of equals to the lowest index, and of
// experts without load to the one with fewest replicas. No expert gets more than most. frozen
// experts keep the count they come with. It returns false if the slots cannot
// all be filled. Cost: O(experts + slots·log experts).
func (s *Packer) Adams(slots, most int, frozen []bool) bool {
	left := slots
	h := s.Heap[:0]
	for e := range s.W {
		if frozen == nil || !frozen[e] {
			s.Count[e] = s.Least
			if most > int(s.Least) {
				h = append(h, HeapItem{Key: s.W[e] / float64(s.Least), Id: int32(e)})
			}
		}
		left -= int(s.Count[e])
	}
	if left < 0 {
		return false
	}
	if left == 0 {
		return true
	}
	before := func(a, b HeapItem) bool {
		if a.Key != b.Key {
			return a.Key > b.Key
		}
		if ca, cb := s.Count[a.Id], s.Count[b.Id]; a.Key == 0 && ca != cb {
			return ca < cb
		}
		return a.Id < b.Id
	}
	// With few copies to give, only the hottest experts can get one.
	if left < len(h)/2 && len(h) == len(s.W) {
		h = h[:0]
		for _, e := range s.Order[:left] {
			h = append(h, HeapItem{Key: s.W[e] / float64(s.Least), Id: e})
		}
		// Equal loads at the cut are handled by order: it sorts by index too.
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		SiftDown(h, i, before)
	}
	for ; left > 0; left-- {
		if len(h) == 0 {
			return false
		}
		e := h[0].Id
		s.Count[e]++
		if int(s.Count[e]) >= most {
			h = pop(h, before)
			continue
		}
		h[0].Key = s.W[e] / float64(s.Count[e])
		SiftDown(h, 0, before)
	}
	return true
}

// CapLimits are the largest replicas, in units of the mean GPU load, that the
// search tries when Adams' counts do not reach the goal, likeliest first.
var CapLimits = []float64{.9, .96, .8, .98, .85, .75, .7, .65, .93, .6}

// Capped gives every expert whose load is above limit just as many replicas as
// bring each to at most limit, and shares what is left among the others. Fewer
// copies of the hottest leave room where Adams' counts would force two large
// replicas on one GPU.
func (s *Packer) Capped(slots, most int, limit float64) bool {
	s.frozen = slices.Grow(s.frozen[:0], len(s.W))[:len(s.W)]
	clear(s.frozen)
	for _, e := range s.Order {
		if s.W[e] <= limit {
			break
		}
		n := CeilDiv(s.W[e], limit)
		if n > most {
			return false
		}
		s.Count[e] = max(int32(n), s.Least)
		s.frozen[e] = true
	}
	return s.Adams(slots, most, s.frozen)
}

// CountBy makes counts number i: Adams' are number -1, then come those that CapLimits
// cap, where 1 is bound.
func (s *Packer) CountBy(i int, bound float64) bool {
	if i < 0 {
		return s.Adams(s.U.Slots, len(s.U.Gpu), nil)
	}
	return s.Capped(s.U.Slots, len(s.U.Gpu), CapLimits[i]*bound)
}

// CeilDiv is the least n ≥ 1 with a/n ≤ b, in the very arithmetic that later
// divides; it is bounded by 1<<30.
func CeilDiv(a, b float64) int {
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

// BySize lists the experts by the load of one replica, largest first, ties by
// index, in s.Ranked. Cost: O(experts·log experts).
func (s *Packer) BySize() {
	s.Cut()
	s.Ranked = append(s.Ranked[:0], s.Order...)
	sortBy(s.Ranked, s.Size)
}

// sortBy sorts experts by a key, the largest first, ties by index.
func sortBy(experts []int32, key []float64) {
	slices.SortFunc(experts, func(a, b int32) int {
		switch {
		case key[a] > key[b]:
			return -1
		case key[a] < key[b]:
			return 1
		}
		return int(a - b)
	})
}

// Cut sets what a replica of each expert carries by the counts at hand.
func (s *Packer) Cut() {
	for e, w := range s.W {
		s.Size[e] = w / float64(max(s.Count[e], 1))
	}
}

// HeapItem is an entry of the small binary heaps of the search.
type HeapItem struct {
	Key float64
	Id  int32
}

// pop takes the first of a heap away.
func pop(h []HeapItem, before func(a, b HeapItem) bool) []HeapItem {
	last := len(h) - 1
	h[0] = h[last]
	SiftDown(h[:last], 0, before)
	return h[:last]
}

// SiftDown restores the heap below i; before says which of two comes first.
func SiftDown(h []HeapItem, i int, before func(a, b HeapItem) bool) {
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
