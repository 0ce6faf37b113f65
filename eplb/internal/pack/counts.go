package pack

import (
	"math"
	"slices"
)

// CapLimits are the largest replicas, in units of the mean GPU load, that the
// search tries when Adams' counts do not reach the goal, likeliest first.
var CapLimits = []float64{.9, .96, .8, .98, .85, .75, .7, .65, .93, .6}

// CountBy makes counts number i: Adams' are number -1, then come those that CapLimits
// cap, where 1 is bound. Every expert gets s.Least replicas, and each further one goes to
// the expert whose replicas carry most (the largest load/count), as Adams' method of
// apportionment does; of equals to the lowest index, and of experts without load to the
// one with fewest replicas. No expert is twice on a GPU. An expert whose load is above
// the cap gets just as many replicas as bring each to at most that: fewer copies of the
// hottest leave room where Adams' counts would force two large replicas on one GPU.
// It returns false if the slots cannot be filled. Cost: O(experts + slots·log experts).
func (s *Packer) CountBy(i int, bound float64) bool {
	limit := math.Inf(1)
	if i >= 0 {
		limit = CapLimits[i] * bound
	}
	most, left := int32(len(s.U.Gpu)), s.U.Slots
	next := s.Ranked[:0]
	for _, e := range s.Order {
		n := max(int32(CeilDiv(s.W[e], limit)), s.Least)
		if n > most {
			return false
		}
		s.Count[e], s.Size[e] = n, s.W[e]/float64(n)
		if left -= int(n); s.W[e] <= limit && n < most {
			next = append(next, e)
		}
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
		if s.Count[e] < most {
			Sink(next, before)
		} else {
			next = next[1:]
		}
	}
	return left == 0
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
