package eplb

import (
	"cmp"
	"slices"
)

// swapWork bounds one descent, in slots looked at: a tenth of a second or so,
// which only layers of 10,000 slots take.
const swapWork = 1 << 27

// swap exchanges replicas between the fullest GPU and another, each time the
// exchange that leaves the larger of the two levels least, until no GPU is
// above goal or no exchange helps. Counts stay; no expert comes to be twice on
// one GPU. Cost: a step takes O(slots), and 10 to 40 steps are usual.
func (s *solver) swap(goal float64) {
	u := s.u
	for g := range u.speed {
		for i := u.first[g]; i < u.first[g+1]; i++ {
			s.sz[i] = s.size[s.slot[i]]
		}
		s.settle(g)
	}
	for s.looked = 0; s.looked < swapWork; s.looked += u.slots {
		h, top := 0, 0.0
		for g, v := range u.speed {
			if l := s.load[g] / v; l > top {
				h, top = g, l
			}
		}
		if top <= goal {
			return
		}
		limit := top * (1 - 1e-12)
		if i, g, j := s.bestSwap(h, limit, goal); g >= 0 {
			s.exchange(h, i, g, j)
		} else if !s.swapPairs(h, limit, goal) {
			return
		}
	}
}

// bestSwap finds slots i of h and j of g whose exchange brings both GPUs
// farthest below best, or the first that brings both to goal; g is -1 if there
// is none.
func (s *solver) bestSwap(h int, best, goal float64) (bi, bg, bj int) {
	u := s.u
	bg = -1
	lightest := 0
	for g, v := range u.speed {
		if s.load[g]*u.speed[lightest] < s.load[lightest]*v {
			lightest = g
		}
	}
	lh, vh := s.load[h], u.speed[h]
	first, last := u.first[h], u.first[h+1]
	szH := s.sz[first:last]
	for n := range u.speed {
		// The lightest GPU first: what it allows rules most others out.
		g := n + lightest
		if g >= len(u.speed) {
			g -= len(u.speed)
		}
		lg, vg := s.load[g], u.speed[g]
		if g == h || (lh+lg)/(vh+vg) >= best {
			continue
		}
		// The load d that changes sides must be in (lo, hi).
		lo, hi := lh-float64(best*vh), float64(best*vg)-lg
		f := u.first[g]
		szG := s.sz[f:u.first[g+1]]
		k := 0
		for i, a := range szH {
			for k < len(szG) && a-szG[k] <= lo {
				k++
			}
			if k == len(szG) {
				break
			}
			j := k
			for ; j < len(szG); j++ {
				d := a - szG[j]
				if d >= hi {
					break
				}
				l := max((lh-d)/vh, (lg+d)/vg)
				if l >= best {
					continue
				}
				if s.holds(g, s.slot[first+i]) || s.holds(h, s.slot[f+j]) {
					continue
				}
				best, bi, bg, bj = l, first+i, g, f+j
				if best <= goal {
					return bi, bg, bj
				}
				lo, hi = lh-float64(best*vh), float64(best*vg)-lg
			}
			s.looked += j - k
		}
	}
	return bi, bg, bj
}

// exchange swaps the replicas in slot i of GPU h and slot j of GPU g.
func (s *solver) exchange(h, i, g, j int) {
	a, b := s.slot[i], s.slot[j]
	d := s.sz[i] - s.sz[j]
	s.slot[i], s.slot[j] = b, a
	s.sz[i], s.sz[j] = s.sz[j], s.sz[i]
	s.load[h] -= d
	s.load[g] += d
	s.has[h*s.words+int(a>>6)] &^= 1 << (a & 63)
	s.has[g*s.words+int(b>>6)] &^= 1 << (b & 63)
	s.has[h*s.words+int(b>>6)] |= 1 << (b & 63)
	s.has[g*s.words+int(a>>6)] |= 1 << (a & 63)
	s.settle(h)
	s.settle(g)
}

// settle sorts the slots of a GPU by size, largest first: an insertion sort,
// since they are nearly sorted.
func (s *solver) settle(g int) {
	lo, hi := s.u.first[g], s.u.first[g+1]
	for i := lo + 1; i < hi; i++ {
		x, e := s.sz[i], s.slot[i]
		j := i
		for ; j > lo && s.sz[j-1] < x; j-- {
			s.sz[j], s.slot[j] = s.sz[j-1], s.slot[j-1]
		}
		s.sz[j], s.slot[j] = x, e
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
// exchange helps, and says whether one was found.
func (s *solver) swapPairs(h int, best, goal float64) bool {
	u := s.u
	if u.room(h) > pairsRoom {
		return false
	}
	s.pairsH = s.listPairs(s.pairsH[:0], h)
	lh, vh := s.load[h], u.speed[h]
	bg, bp, bq := -1, pair{}, pair{}
	for g, vg := range u.speed {
		lg := s.load[g]
		if g == h || (lh+lg)/(vh+vg) >= best || u.room(g) > pairsRoom {
			continue
		}
		s.pairsG = s.listPairs(s.pairsG[:0], g)
		lo, hi := lh-float64(best*vh), float64(best*vg)-lg
		k := 0
		for _, p := range s.pairsH {
			for k < len(s.pairsG) && p.sum-s.pairsG[k].sum <= lo {
				k++
			}
			for j := k; j < len(s.pairsG); j++ {
				q := s.pairsG[j]
				d := p.sum - q.sum
				if d >= hi {
					break
				}
				l := max((lh-d)/vh, (lg+d)/vg)
				if l >= best || s.holds(g, s.slot[p.i]) || s.holds(g, s.slot[p.j]) || s.holds(h, s.slot[q.i]) || s.holds(h, s.slot[q.j]) {
					continue
				}
				best, bg, bp, bq = l, g, p, q
				lo, hi = lh-float64(best*vh), float64(best*vg)-lg
			}
		}
		if best <= goal {
			break
		}
	}
	if bg < 0 {
		return false
	}
	// Exchanging re-sorts both GPUs, so the second slots are found by expert.
	a, b := s.slot[bp.j], s.slot[bq.j]
	s.exchange(h, int(bp.i), bg, int(bq.i))
	s.exchange(h, s.slotOf(h, a), bg, s.slotOf(bg, b))
	return true
}

// listPairs appends all pairs of slots of a GPU, the largest sum first.
func (s *solver) listPairs(dst []pair, g int) []pair {
	for i := s.u.first[g]; i < s.u.first[g+1]; i++ {
		for j := i + 1; j < s.u.first[g+1]; j++ {
			dst = append(dst, pair{s.sz[i] + s.sz[j], int32(i), int32(j)})
		}
	}
	if len(dst) > 64 {
		slices.SortFunc(dst, func(a, b pair) int {
			return cmp.Or(cmp.Compare(b.sum, a.sum), cmp.Compare(a.i, b.i), cmp.Compare(a.j, b.j))
		})
		return dst
	}
	for i := 1; i < len(dst); i++ {
		p := dst[i]
		j := i
		for ; j > 0 && dst[j-1].sum < p.sum; j-- {
			dst[j] = dst[j-1]
		}
		dst[j] = p
	}
	return dst
}

// slotOf is the slot of GPU g that holds e.
func (s *solver) slotOf(g int, e int32) int {
	for i := s.u.first[g]; ; i++ {
		if s.slot[i] == e {
			return i
		}
	}
}
