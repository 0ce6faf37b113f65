package pack

import "slices"

// Adams gives every expert s.Least replicas and each further one, up to slots in
// all, to the expert whose replicas carry most (the largest load/count), as
// Adams' method of apportionment does; of equals to the lowest index, and of
// experts without load to the one with fewest replicas. No expert gets more than most.
// The hottest, so many, keep the count they come with. It returns false if the slots
// cannot all be filled. Cost: O(experts + slots·log experts).
func (s *Packer) Adams(slots, most, hottest int) bool {
	left := slots
	next := s.Ranked[:0]
	for i, e := range s.Order {
		if i >= hottest {
			s.Count[e] = s.Least
			s.Size[e] = s.W[e] / float64(s.Least)
			if most > int(s.Least) {
				next = append(next, e)
			}
		}
		left -= int(s.Count[e])
	}
	before := func(a, b int32) int {
		if s.Size[a] == 0 && s.Size[b] == 0 && s.Count[a] != s.Count[b] {
			return int(s.Count[a] - s.Count[b])
		}
		return s.Larger(a, b)
	}
	for ; left > 0 && len(next) > 0; left-- {
		e := next[0]
		s.Count[e]++
		s.Size[e] = s.W[e] / float64(s.Count[e])
		if int(s.Count[e]) < most {
			Sink(next, before)
		} else {
			next = next[1:]
		}
	}
	return left == 0
}

// CapLimits are the largest replicas, in units of the mean GPU load, that the
// search tries when Adams' counts do not reach the goal, likeliest first.
var CapLimits = []float64{.9, .96, .8, .98, .85, .75, .7, .65, .93, .6}

// Capped gives every expert whose load is above limit just as many replicas as
// bring each to at most limit, and shares what is left among the others. Fewer
// copies of the hottest leave room where Adams' counts would force two large
// replicas on one GPU.
func (s *Packer) Capped(slots, most int, limit float64) bool {
	for i, e := range s.Order {
		if s.W[e] <= limit {
			return s.Adams(slots, most, i)
		}
		n := CeilDiv(s.W[e], limit)
		if n > most {
			return false
		}
		s.Count[e] = max(int32(n), s.Least)
	}
	return s.Adams(slots, most, len(s.Order))
}

// CountBy makes counts number i: Adams' are number -1, then come those that CapLimits
// cap, where 1 is bound.
func (s *Packer) CountBy(i int, bound float64) bool {
	if i < 0 {
		return s.Adams(s.U.Slots, len(s.U.Gpu), 0)
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
	s.Ranked = s.sorted(s.Ranked, s.Size)
}

// Larger orders experts by the load of one replica, the largest first, ties by index.
func (s *Packer) Larger(a, b int32) int { return Order(s.Size[b], s.Size[a], a, b) }

// Order is below 0 where x, which is a's, comes before y, which is b's: ties by index.
func Order(x, y float64, a, b int32) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return int(a - b)
}

// Sink brings the first of a sorted list to where it belongs now.
func Sink(list []int32, compare func(a, b int32) int) {
	x := list[0]
	i, _ := slices.BinarySearchFunc(list[1:], x, compare)
	copy(list, list[1:1+i])
	list[i] = x
}

// Cut sets what a replica of each expert carries by the counts at hand.
func (s *Packer) Cut() {
	for e, w := range s.W {
		s.Size[e] = w / float64(max(s.Count[e], 1))
	}
}
