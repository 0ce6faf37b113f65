package pack

import (
	"cmp"
	"slices"
)

// swapWork bounds one descent, in slots looked at: a tenth of a second or so,
// which only layers of 10,000 slots take.
const swapWork = 1 << 27

// Swap exchanges replicas between the fullest GPU and another, each time the
// exchange that leaves the larger of the two levels least, until no GPU is
// above goal or no exchange helps: with pairs not of two for two either. Counts
// stay; no expert comes to be twice on one GPU. Cost: a step takes O(slots), and 10
// to 40 steps are usual.
func (s *Packer) Swap(goal float64, pairs bool) {
	u := s.U
	for g := range u.Speed {
		for i := u.First[g]; i < u.First[g+1]; i++ {
			s.Sz[i] = s.Size[s.Slot[i]]
		}
		s.settle(g)
	}
	for s.looked = 0; s.looked < swapWork; s.looked += u.Slots {
		h, top := s.Fullest()
		if top <= goal {
			return
		}
		limit := top * (1 - 1e-12)
		if i, g, j := s.bestSwap(h, limit, goal); g >= 0 {
			s.exchange(h, i, g, j)
		} else if !pairs || !s.swapPairs(h, limit, goal) {
			return
		}
	}
}

// bestSwap finds slots i of h and j of g whose exchange brings both GPUs
// farthest below best, or the first that brings both to goal; g is -1 if there
// is none.
func (s *Packer) bestSwap(h int, best, goal float64) (bi, bg, bj int) {
	u := s.U
	bg = -1
	lightest := 0
	for g, v := range u.Speed {
		if s.Load[g]*u.Speed[lightest] < s.Load[lightest]*v {
			lightest = g
		}
	}
	a := s.Sz[u.First[h]:u.First[h+1]]
	for n := range u.Speed {
		// The lightest GPU first: what it allows rules most others out.
		g := n + lightest
		if g >= len(u.Speed) {
			g -= len(u.Speed)
		}
		if g == h || (s.Load[h]+s.Load[g])/(u.Speed[h]+u.Speed[g]) >= best {
			continue
		}
		lo, hi := u.First[h], u.First[g]
		i, j, l := s.bestTrade(h, g, a, s.Sz[hi:u.First[g+1]], best, goal, func(i, j int) bool {
			return !s.Holds(g, s.Slot[lo+i]) && !s.Holds(h, s.Slot[hi+j])
		})
		if i >= 0 {
			best, bi, bg, bj = l, lo+i, g, hi+j
		}
		if best <= goal {
			break
		}
	}
	return bi, bg, bj
}

// bestTrade finds what GPU h gives to g, of the sizes a, and what it gets, of b, both
// the largest first, where that is free and brings both GPUs farthest below best, or
// the first that brings both to goal; i is -1 if there is none.
func (s *Packer) bestTrade(h, g int, a, b []float64, best, goal float64, free func(i, j int) bool) (bi, bj int, level float64) {
	lh, vh, lg, vg := s.Load[h], s.U.Speed[h], s.Load[g], s.U.Speed[g]
	// The load d that changes sides must be in (lo, hi).
	lo, hi := lh-float64(best*vh), float64(best*vg)-lg
	bi = -1
	k := 0
	for i, x := range a {
		for k < len(b) && x-b[k] <= lo {
			k++
		}
		j := k
		for ; j < len(b); j++ {
			d := x - b[j]
			if d >= hi {
				break
			}
			l := max((lh-d)/vh, (lg+d)/vg)
			if l >= best || !free(i, j) {
				continue
			}
			best, bi, bj = l, i, j
			if best <= goal {
				return bi, bj, best
			}
			lo, hi = lh-float64(best*vh), float64(best*vg)-lg
		}
		s.looked += j - k
	}
	return bi, bj, best
}

// exchange swaps the replicas in slot i of GPU h and slot j of GPU g.
func (s *Packer) exchange(h, i, g, j int) {
	a, b := s.Slot[i], s.Slot[j]
	d := s.Sz[i] - s.Sz[j]
	s.Slot[i], s.Slot[j] = b, a
	s.Sz[i], s.Sz[j] = s.Sz[j], s.Sz[i]
	s.Load[h] -= d
	s.Load[g] += d
	s.Has[h*s.Words+int(a>>6)] &^= 1 << (a & 63)
	s.Has[g*s.Words+int(b>>6)] &^= 1 << (b & 63)
	s.Has[h*s.Words+int(b>>6)] |= 1 << (b & 63)
	s.Has[g*s.Words+int(a>>6)] |= 1 << (a & 63)
	s.settle(h)
	s.settle(g)
}

// settle sorts the slots of a GPU by size, largest first: an insertion sort,
// since they are nearly sorted.
func (s *Packer) settle(g int) {
	lo, hi := s.U.First[g], s.U.First[g+1]
	for i := lo + 1; i < hi; i++ {
		x, e := s.Sz[i], s.Slot[i]
		j := i
		for ; j > lo && s.Sz[j-1] < x; j-- {
			s.Sz[j], s.Slot[j] = s.Sz[j-1], s.Slot[j-1]
		}
		s.Sz[j], s.Slot[j] = x, e
	}
}

// pair is two slots of a GPU and the load of both.
type pair struct {
	sum  float64
	i, j int32
}

// pairsRoom is the most slots of a GPU whose pairs are looked at: with more
// a single exchange serves.
const pairsRoom = 128

// swapPairs exchanges two replicas of h for two of another GPU, where no single
// exchange helps, and says whether one was found. Without it 64 experts on 16 GPUs of 5
// slots and 256 on 64 stand .03 to .05% higher, and 64 in 8 groups on 4 nodes of 4 GPUs
// of 6 take six times as long.
func (s *Packer) swapPairs(h int, best, goal float64) bool {
	u := s.U
	if u.Room(h) > pairsRoom {
		return false
	}
	s.pairsH, s.sumsH = s.listPairs(s.pairsH[:0], s.sumsH[:0], h)
	bg, bp, bq := -1, pair{}, pair{}
	for g, vg := range u.Speed {
		if g == h || (s.Load[h]+s.Load[g])/(u.Speed[h]+vg) >= best || u.Room(g) > pairsRoom {
			continue
		}
		s.pairsG, s.sumsG = s.listPairs(s.pairsG[:0], s.sumsG[:0], g)
		i, j, l := s.bestTrade(h, g, s.sumsH, s.sumsG, best, -1, func(i, j int) bool {
			p, q := s.pairsH[i], s.pairsG[j]
			return !s.Holds(g, s.Slot[p.i]) && !s.Holds(g, s.Slot[p.j]) && !s.Holds(h, s.Slot[q.i]) && !s.Holds(h, s.Slot[q.j])
		})
		if i >= 0 {
			best, bg, bp, bq = l, g, s.pairsH[i], s.pairsG[j]
		}
		if best <= goal {
			break
		}
	}
	if bg < 0 {
		return false
	}
	// Exchanging re-sorts both GPUs, so the second slots are found by expert.
	a, b := s.Slot[bp.j], s.Slot[bq.j]
	s.exchange(h, int(bp.i), bg, int(bq.i))
	s.exchange(h, s.slotOf(h, a), bg, s.slotOf(bg, b))
	return true
}

// listPairs appends all pairs of slots of a GPU and what they carry, the most first.
func (s *Packer) listPairs(dst []pair, sums []float64, g int) ([]pair, []float64) {
	for i := s.U.First[g]; i < s.U.First[g+1]; i++ {
		for j := i + 1; j < s.U.First[g+1]; j++ {
			dst = append(dst, pair{s.Sz[i] + s.Sz[j], int32(i), int32(j)})
		}
	}
	slices.SortFunc(dst, func(a, b pair) int {
		if a.sum != b.sum {
			return cmp.Compare(b.sum, a.sum)
		}
		return cmp.Or(cmp.Compare(a.i, b.i), cmp.Compare(a.j, b.j))
	})
	for _, p := range dst {
		sums = append(sums, p.sum)
	}
	return dst, sums
}

// slotOf is the slot of GPU g that holds e.
func (s *Packer) slotOf(g int, e int32) int {
	return s.U.First[g] + slices.Index(s.Slot[s.U.First[g]:s.U.First[g+1]], e)
}
