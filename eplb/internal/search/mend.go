package search

import (
	"cmp"
	"math"
	"slices"
)

// Mend gives every expert without a replica a slot, and every empty slot a
// replica, if homes allow one: an expert that died takes an empty slot, which must be
// filled anyhow, or where there is none the place of a copy that is missed least; then
// the emptiest GPUs get copies of the hottest experts. It starts from the placement at
// hand.
func (s *State) Mend() {
	for e := range s.count {
		if s.count[e] > 0 {
			continue
		}
		empty := slices.Contains(s.slot, -1)
		room := func(i int32) bool { return s.slot[i] < 0 || !empty && s.count[s.slot[i]] > 1 }
		may := func(i int32) bool { return s.mayDrop(i) && s.mayHold(s.gpu[i], s.slot[i], int32(e)) }
		best := s.leastMissed(int32(e), func(i int32) bool { return room(i) && may(i) })
		if best < 0 { // empty slots are elsewhere
			best = s.leastMissed(int32(e), may)
		}
		if best < 0 { // copies without which an expert would be in one domain come last
			best = s.leastMissed(int32(e), room)
		}
		if best >= 0 { // the task has seen to the room
			s.Apply(Change{best, -1, int32(e)})
		}
	}
	s.fillEmpty()
}

// leastMissed is the slot whose expert is missed least where e comes in its place, of
// those that may lose it; -1 = none.
func (s *State) leastMissed(e int32, may func(i int32) bool) int32 {
	s.twice = Soft
	s.weigh()
	best, top := int32(-1), math.Inf(1)
	for i := range int32(len(s.slot)) {
		if !may(i) {
			continue
		}
		if v, _ := s.after(Change{i, -1, e}, math.Inf(1)); v < top {
			best, top = i, v
		}
	}
	return best
}

// fillEmpty gives every empty slot a replica, the emptiest GPU's first: of an
// expert that must come to another domain, else of the expert whose replicas are
// largest. No GPU has more slots than there are experts; where those at home are fewer,
// slots stay empty.
func (s *State) fillEmpty() {
	t, full := s.t, make([]bool, len(s.inv))
	for {
		at, g := -1, int32(0)
		for i, e := range s.slot {
			if h := s.gpu[i]; e < 0 && !full[h] && (at < 0 || h != g && s.mean(s.level[int(h)*s.n:]) < s.mean(s.level[int(g)*s.n:])) {
				at, g = i, h
			}
		}
		if at < 0 {
			return
		}
		best := int32(-1)
		if t.Domain != nil {
			best = s.largest(func(e int32) bool {
				return !s.holds(g, e) && !s.apart(e, -1, -1) && s.apart(e, -1, t.Domain[g])
			})
		}
		if best < 0 {
			best = s.largest(func(e int32) bool { return !s.holds(g, e) && s.mayHold(g, -1, e) })
		}
		if full[g] = best < 0; best >= 0 {
			s.Apply(Change{int32(at), -1, best})
		}
	}
}

// largest is the expert of the largest replicas, of those that pass a test; -1 = none
// does.
func (s *State) largest(fits func(e int32) bool) int32 {
	best, most := int32(-1), -1.0
	for e := range s.count {
		if x := s.mean(s.size[e*s.n:]); x > most && fits(int32(e)) {
			best, most = int32(e), x
		}
	}
	return best
}

// mean is the mean over the windows of what is given for each.
func (s *State) mean(x []float64) float64 {
	sum := 0.0
	for k, a := range s.t.Share {
		sum += float64(a * x[k])
	}
	return sum
}

// Recount makes the experts on every node, or where nodes do not matter on all GPUs,
// those of another layout: of those that are too many the ones on the fullest GPUs go,
// those that lack come to the emptiest GPUs that have room then, the largest first. It
// says whether all found one.
func (s *State) Recount(layout []int32) bool {
	t, node := s.t, s.t.Domain
	if t.Home != nil {
		node = t.Node
	} else if node == nil {
		node = make([]int, t.GPUs())
	}
	key := func(i, e int32) int { return node[s.gpu[i]]*t.Experts + int(e) }
	lack := make([]int32, (slices.Max(node)+1)*t.Experts)
	clear(s.count) // sizes are what they will be
	for i, e := range layout {
		if e >= 0 {
			s.count[e]++
			lack[key(int32(i), e)]++
		}
		if f := s.slot[i]; f >= 0 {
			lack[key(int32(i), f)]--
		}
	}
	for e := range s.count {
		s.resize(int32(e))
	}
	s.Refresh()
	size := func(e int32) float64 { return s.mean(s.size[int(e)*s.n:]) }
	level := func(i int32) float64 { return s.mean(s.level[int(s.gpu[i])*s.n:]) }
	add := func(i, e int32, sign float64) {
		g := int(s.gpu[i])
		for k, x := range s.size[int(e)*s.n:][:s.n] {
			s.level[g*s.n+k] += float64(float64(sign*x) * s.inv[g])
		}
	}
	var come []Change
	for e := range int32(t.Experts) {
		for {
			best := int32(-1)
			for _, i := range s.at[e] {
				if lack[key(i, e)] < 0 && (best < 0 || level(i) > level(best)) {
					best = i
				}
			}
			if best < 0 {
				break
			}
			s.hold(best, -1)
			add(best, e, -1)
			lack[key(best, e)]++
		}
	}
	for i, n := range lack {
		for range n {
			come = append(come, Change{-1, int32(i / t.Experts), int32(i % t.Experts)})
		}
	}
	slices.SortStableFunc(come, func(a, b Change) int { return cmp.Compare(size(b.E), size(a.E)) })
	for _, c := range come {
		best := int32(-1)
		for i := range int32(len(s.slot)) {
			if s.slot[i] < 0 && !s.holds(s.gpu[i], c.E) && key(i, c.E) == int(c.B)*t.Experts+int(c.E) && (best < 0 || level(i) < level(best)) {
				best = i
			}
		}
		if best < 0 {
			return false
		}
		s.hold(best, c.E)
		add(best, c.E, 1)
	}
	s.Start(slices.Clone(s.slot))
	return true
}

// Settle gives experts that stayed on their GPU the slots that they had.
func (s *State) Settle(slot []int32) {
	t := s.t
	for g := range s.inv {
		prev := t.Prev[t.First[g]:t.First[g+1]]
		for i := t.First[g]; i < t.First[g+1]; i++ {
			e := slot[i]
			for e >= 0 && e != t.Prev[i] {
				k := slices.Index(prev, e)
				if k < 0 || slot[t.First[g]+k] == e {
					break
				}
				slot[i], slot[t.First[g]+k] = slot[t.First[g]+k], e
				e = slot[i]
			}
		}
	}
}
