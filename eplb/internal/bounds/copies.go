package bounds

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// Every bound here asks how many GPUs the hottest experts need. At a level T, n GPUs take at
// most T·reach[n-1] of an expert's load w beside small, which does not count, and more GPUs
// than reach has no more than its last. An expert needs the least n with w - small ≤
// T·reach[n-1], and all together need no more slots than there are. The least such T is
// found by giving every slot to the expert that asks for most, as Adams' method of
// apportionment does.

// least is that T, where every expert has so many replicas each, and the layer so many
// slots more than it has. Cost: O(spare·log spare).
func least(s *pack.Packer, reach []float64, small float64, each int32, more int) float64 {
	spare := s.U.Slots - int(each)*len(s.W) + more
	if spare < 0 {
		return 1
	}
	hot := append(s.Ranked[:0], s.Order[:min(spare+1, len(s.Order))]...)
	cut := func(e, n int32) {
		s.Count[e], s.Size[e] = n, (s.W[e]-small)/reach[min(int(n), len(reach))-1]
	}
	for _, e := range hot {
		cut(e, each)
	}
	for range spare {
		cut(hot[0], s.Count[hot[0]]+1)
		pack.Sink(hot, s.Larger)
	}
	return s.Size[hot[0]]
}

// reach is what the n fastest GPUs take at level 1, for n = 1, 2 and so on, of an expert
// that is split in any way, or evenly: then as much as the slowest of some of them takes
// n times.
func reach(s *pack.Packer, even bool) []float64 {
	out := slices.Sorted(slices.Values(s.U.Speed))
	slices.Reverse(out)
	sum, most := 0.0, 0.0
	for i, v := range out {
		sum, most = sum+v, max(most, float64(i+1)*v)
		if out[i] = sum; even {
			out[i] = most
		}
	}
	return out
}

// Even is a lower bound where tokens are split evenly over replicas.
func Even(s *pack.Packer) float64 { return max(1, least(s, reach(s, true), 0, s.Least, 0)) }

// Split is a lower bound for any split of tokens over replicas. Where GPUs are alike,
// with S slots each, hot experts cannot have theirs to themselves: let lambda be the load
// of some small expert, and q the number of smaller ones.
//
// Take GPUs joined by shared experts: m of them, with a hot ones. Joining them
// costs copies, so they hold (S-1)·m + 1 experts, or fewer where copies or slots
// are wasted. But for the q smallest, all but the hot carry lambda at least:
//
//	m·(T - (S-1)·lambda) ≥ hot loads - (a-1)·lambda
//
// A hot expert needs n GPUs by what is then left of T beside lambda, n the least with
// load - lambda ≤ n·(T - (S-1)·lambda), and m is at least the sum of n - (a-1). Summed
// over all such sets of GPUs, those without a hot expert having one GPU at least, the sum
// of n-1 over the hot cannot exceed the number of copies. Each of the q smallest, each
// wasted copy gains one copy at most while S·lambda ≤ T. Cost: q times O(copies·log
// copies).
func Split(s *pack.Packer) float64 {
	bound := max(1, least(s, reach(s, false), 0, s.Least, 0))
	if !s.U.Alike() {
		return bound
	}
	room, count := float64(s.U.Room(0)), make([]float64, s.U.Slots+mostSmall)
	for i := range count {
		count[i] = float64(i + 1)
	}
	for q := range min(len(s.W), mostSmall) {
		lambda := s.W[s.Order[len(s.W)-1-q]]
		if t := float64((room-1)*lambda) + least(s, count, lambda, 1, q); t >= room*lambda {
			bound = max(bound, t*(1-1e-12)) // rounding must not matter
		}
	}
	return bound
}

// mostSmall is how many of the smallest experts are set apart in turn.
const mostSmall = 64

// SplitWork bounds the slots times GPUs of a layer that is planned for the split;
// beyond, the plan is that of an even one.
const SplitWork = 1 << 26
