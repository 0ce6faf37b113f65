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
	lh, vh := s.Load[h], u.Speed[h]
	first, last := u.First[h], u.First[h+1]
	szH := s.Sz[first:last]
	for n := range u.Speed {
		// The lightest GPU first: what it allows rules most others out.
		g := n + lightest
		if g >= len(u.Speed) {
			g -= len(u.Speed)
		}
		lg, vg := s.Load[g], u.Speed[g]
		if g == h || (lh+lg)/(vh+vg) >= best {
			continue
		}
		// The load d that changes sides must be in (lo, hi).
		lo, hi := lh-float64(best*vh), float64(best*vg)-lg
		f := u.First[g]
		szG := s.Sz[f:u.First[g+1]]
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
				if s.Holds(g, s.Slot[first+i]) || s.Holds(h, s.Slot[f+j]) {
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
	s.pairsH = s.listPairs(s.pairsH[:0], h)
	lh, vh := s.Load[h], u.Speed[h]
	bg, bp, bq := -1, pair{}, pair{}
	for g, vg := range u.Speed {
		lg := s.Load[g]
		if g == h || (lh+lg)/(vh+vg) >= best || u.Room(g) > pairsRoom {
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
				if l >= best || s.Holds(g, s.Slot[p.i]) || s.Holds(g, s.Slot[p.j]) || s.Holds(h, s.Slot[q.i]) || s.Holds(h, s.Slot[q.j]) {
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
	a, b := s.Slot[bp.j], s.Slot[bq.j]
	s.exchange(h, int(bp.i), bg, int(bq.i))
	s.exchange(h, s.slotOf(h, a), bg, s.slotOf(bg, b))
	return true
}

// listPairs appends all pairs of slots of a GPU, the largest sum first.
func (s *Packer) listPairs(dst []pair, g int) []pair {
	for i := s.U.First[g]; i < s.U.First[g+1]; i++ {
		for j := i + 1; j < s.U.First[g+1]; j++ {
			dst = append(dst, pair{s.Sz[i] + s.Sz[j], int32(i), int32(j)})
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
func (s *Packer) slotOf(g int, e int32) int {
	return s.U.First[g] + slices.Index(s.Slot[s.U.First[g]:s.U.First[g+1]], e)
}
