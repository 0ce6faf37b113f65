package pack

import "slices"

// swapWork bounds one descent, in slots looked at: a tenth of a second or so,
// which only layers of 10,000 slots take.
const swapWork = 1 << 27

// Swap exchanges replicas between the fullest GPU and another, each time the
// exchange that leaves the larger of the two levels least, until no GPU is
// above goal or no exchange helps, one for one or two for two. Counts stay; no expert comes to be twice on one GPU. Cost: a step takes O(slots), and 10
// to 40 steps are usual.
func (s *Packer) Swap(goal float64) {
	u := s.U
	for g := range u.Speed {
		for i := u.First[g]; i < u.First[g+1]; i++ {
			s.parts[i] = part{s.Size[s.Slot[i]], int32(i), int32(i)}
		}
		s.settle(g)
	}
	for s.looked = 0; s.looked < swapWork; s.looked += u.Slots {
		h, top := s.Fullest()
		if top <= goal {
			return
		}
		limit := top * (1 - 1e-12)
		if !s.trade(h, false, limit, goal) && (u.Room(h) > pairsRoom || !s.trade(h, true, limit, goal)) {
			return
		}
	}
}

// part is one or two slots of a GPU, i and j, and the load of both.
type part struct {
	sum  float64
	i, j int32
}

// pairsRoom is the most slots of a GPU whose pairs are looked at: with more
// a single exchange serves.
const pairsRoom = 128

// list lists the slots of a GPU, or all pairs of them in memory given, the largest load
// first. Without pairs 64 experts on 16 GPUs of 5 slots and 256 on 64 stand .03 to .05%
// higher, and 64 in 8 groups on 4 nodes of 4 GPUs of 6 take six times as long.
func (s *Packer) list(dst *[]part, g int, pairs bool) []part {
	one := s.parts[s.U.First[g]:s.U.First[g+1]]
	if !pairs {
		return one
	}
	out := (*dst)[:0]
	for i, p := range one {
		for _, q := range one[i+1:] {
			out = append(out, part{p.sum + q.sum, p.i, q.i})
		}
	}
	if *dst = out; len(out) > 64 {
		slices.SortStableFunc(out, func(a, b part) int { return Order(b.sum, a.sum, 0, 0) })
		return out
	}
	for i, p := range out { // few, nearly sorted: plans of 8 GPUs take 1.4 times as long without (-bench Windows ./bench)
		for ; i > 0 && out[i-1].sum < p.sum; i-- {
			out[i] = out[i-1]
		}
		out[i] = p
	}
	return out
}

// lightest is the GPU of the least load/speed.
func (s *Packer) lightest() (gpu int) {
	for g, v := range s.U.Speed {
		if s.Load[g]*s.U.Speed[gpu] < s.Load[gpu]*v {
			gpu = g
		}
	}
	return gpu
}

// trade exchanges a slot of h, or a pair of them, for one of another GPU, which brings
// both GPUs farthest below best, and says whether one was found. It ends with the first
// that brings both to goal, or with the best pair of its GPU.
func (s *Packer) trade(h int, pairs bool, best, goal float64) bool {
	u := s.U
	from := 0
	if !pairs { // what the lightest allows rules most others out
		from = s.lightest()
	}
	lh, vh := s.Load[h], u.Speed[h]
	ofH := s.list(&s.ofH, h, pairs)
	bg, bp, bq := -1, part{}, part{}
search:
	for n := range u.Speed {
		g := n + from
		if g >= len(u.Speed) {
			g -= len(u.Speed)
		}
		lg, vg := s.Load[g], u.Speed[g]
		if g == h || (lh+lg)/(vh+vg) >= best || pairs && u.Room(g) > pairsRoom {
			continue
		}
		// The load d that changes sides must be in (lo, hi).
		lo, hi := lh-float64(best*vh), float64(best*vg)-lg
		k, ofG := 0, s.list(&s.ofG, g, pairs)
		for _, p := range ofH {
			for k < len(ofG) && p.sum-ofG[k].sum <= lo {
				k++
			}
			j := k
			for ; j < len(ofG); j++ {
				q := ofG[j]
				d := p.sum - q.sum
				if d >= hi {
					break
				}
				l := max((lh-d)/vh, (lg+d)/vg)
				if l >= best || !s.mayTrade(h, p, g, q) {
					continue
				}
				if best, bg, bp, bq = l, g, p, q; best <= goal && !pairs {
					break search
				}
				lo, hi = lh-float64(best*vh), float64(best*vg)-lg
			}
			s.looked += j - k
		}
		if best <= goal {
			break
		}
	}
	if bg < 0 {
		return false
	}
	s.exchange(h, bp.i, bg, bq.i)
	if pairs {
		s.exchange(h, bp.j, bg, bq.j)
	}
	s.settle(h)
	s.settle(bg)
	return true
}

// mayTrade says whether neither GPU holds what it would get.
func (s *Packer) mayTrade(h int, p part, g int, q part) bool {
	return !s.Holds(g, s.Slot[p.i]) && !s.Holds(h, s.Slot[q.i]) &&
		(p.i == p.j || !s.Holds(g, s.Slot[p.j]) && !s.Holds(h, s.Slot[q.j]))
}

// exchange swaps the replicas in slot i of GPU h and slot j of GPU g.
func (s *Packer) exchange(h int, i int32, g int, j int32) {
	a, b := s.Slot[i], s.Slot[j]
	d := s.parts[i].sum - s.parts[j].sum
	s.Slot[i], s.Slot[j] = b, a
	s.parts[i].sum, s.parts[j].sum = s.parts[j].sum, s.parts[i].sum
	s.Load[h] -= d
	s.Load[g] += d
	s.Has[h*s.Words+int(a>>6)] &^= 1 << (a & 63)
	s.Has[g*s.Words+int(b>>6)] &^= 1 << (b & 63)
	s.Has[h*s.Words+int(b>>6)] |= 1 << (b & 63)
	s.Has[g*s.Words+int(a>>6)] |= 1 << (a & 63)
}

// settle sorts the slots of a GPU by size, largest first: an insertion sort,
// since they are nearly sorted.
func (s *Packer) settle(g int) {
	lo, hi := s.U.First[g], s.U.First[g+1]
	for i := lo + 1; i < hi; i++ {
		x, e := s.parts[i].sum, s.Slot[i]
		j := i
		for ; j > lo && s.parts[j-1].sum < x; j-- {
			s.parts[j].sum, s.Slot[j] = s.parts[j-1].sum, s.Slot[j-1]
		}
		s.parts[j].sum, s.Slot[j] = x, e
	}
}
