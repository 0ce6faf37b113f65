package schedule

import "slices"

// localCopies settles GPUs that have all their experts, some in another slot
// than the one they are to have.
type localCopies struct {
	mark   []bool
	head   []int32 // by expert: a slot that holds it in the wrong place
	next   []int32 // by slot: another one
	newSrc []int32

	plan, src []int32 // of a GPU, before it was reordered
}

func (c *localCopies) init(slots, experts int) {
	c.mark = make([]bool, slots)
	c.head = slices.Repeat([]int32{-1}, experts)
	c.next, c.newSrc = make([]int32, slots), make([]int32, slots)
}

// localPass gives every GPU whose experts are all there, or arrive in this
// round, its final order.
func (s *scheduler) localPass() {
	for g := range s.gpus {
		if s.live[g] {
			s.settle(int32(g))
		}
	}
}

// settle gives GPU g its final order if all its requests are served and all it
// is to drop has other copies.
func (s *scheduler) settle(g int32) {
	for _, r := range s.reqOf.of(g) {
		if !s.req[r].done {
			return
		}
	}
	spare := s.spare.of(g)
	for i, slot := range spare {
		if s.used[slot] {
			continue
		}
		if !s.safe(slot) {
			s.restoreSpare(spare[:i])
			return
		}
		if x := s.plan[slot]; x >= 0 {
			s.copies[x]--
			s.local.mark[slot] = true
		}
	}
	if !s.reorderStaged(g) {
		s.restoreSpare(spare)
		s.reorderSome(g)
		return
	}
	for _, slot := range spare {
		s.local.mark[slot] = false
	}
}

// reorderStaged is reorder where the GPU can stage what that writes beyond what
// it receives.
func (s *scheduler) reorderStaged(g int32) bool {
	a, b := s.first[g], s.first[g+1]
	c := &s.local
	c.plan, c.src = append(c.plan[:0], s.plan[a:b]...), append(c.src[:0], s.src[a:b]...)
	before := s.writes(g)
	if !s.reorder(g) {
		return false
	}
	more := s.writes(g) - before
	if s.inPlace || more <= s.stageLeft[g] {
		if !s.inPlace {
			s.stageLeft[g] -= more
		}
		return true
	}
	copy(s.plan[a:b], c.plan)
	copy(s.src[a:b], c.src)
	return false
}

// writes counts the slots of GPU g that the round fills anew.
func (s *scheduler) writes(g int32) (n int32) {
	cur := s.cur[s.layer]
	for i := s.first[g]; i < s.first[g+1]; i++ {
		if s.plan[i] >= 0 && s.plan[i] != cur[i] {
			n++
		}
	}
	return n
}

// reorderSome puts as many of GPU g's experts where they belong as it can stage:
// into slots that are free, else two slots exchange, in place once a round.
func (s *scheduler) reorderSome(g int32) {
	cur, fin := s.cur[s.layer], s.fin[s.layer]
	a, b := s.first[g], s.first[g+1]
	left := s.stageLeft[g]
	if s.inPlace {
		left = 2
	}
	spare := s.spare.of(g)
	for i := a; i < b && left > 0; i++ {
		e, x := fin[i], s.plan[i]
		if e < 0 || x == e || s.fresh[i] || x != cur[i] {
			continue
		}
		h := s.staying(e, a, b)
		switch {
		case h < 0:
		case slices.Contains(spare, int32(i)):
			if s.safe(int32(i)) {
				s.vacate(int32(i))
				s.copies[e]++
				s.plan[i], s.src[i] = e, int32(h)
				left--
			}
		case left >= 2 && fin[h] != e && !s.fresh[h] && !slices.Contains(spare, int32(h)):
			s.plan[i], s.src[i] = e, int32(h)
			s.plan[h], s.src[h] = x, int32(i)
			left -= 2
		}
	}
	if !s.inPlace {
		s.stageLeft[g] = left
	}
}

// staying is the first slot from a to b that holds e and keeps it, -1 = none.
func (s *scheduler) staying(e int32, a, b int) int {
	for k, x := range s.cur[s.layer][a:b] {
		if x == e && s.plan[a+k] == e {
			return a + k
		}
	}
	return -1
}

// restoreSpare takes back what settle dropped.
func (s *scheduler) restoreSpare(spare []int32) {
	for _, slot := range spare {
		if s.local.mark[slot] {
			s.local.mark[slot] = false
			s.copies[s.plan[slot]]++
		}
	}
}

// reorder plans the final expert of each slot of GPU g. Two copies of an expert
// that has just arrived wait a round: the second is read from the first.
func (s *scheduler) reorder(g int32) bool {
	c, fin, cur := &s.local, s.fin[s.layer], s.cur[s.layer]
	a, b := s.first[g], s.first[g+1]
	for i := b - 1; i >= a; i-- {
		if e := s.plan[i]; e >= 0 && e != fin[i] && !c.mark[i] {
			c.next[i] = c.head[e]
			c.head[e] = int32(i)
		}
	}
	ok := true
	for i := a; i < b && ok; i++ {
		e := fin[i]
		if s.plan[i] == e || e < 0 {
			continue
		}
		switch h := c.head[e]; {
		case h >= 0 && s.fresh[h]:
			c.head[e] = c.next[h]
			c.newSrc[i] = s.src[h]
		case h >= 0:
			c.head[e] = c.next[h]
			c.newSrc[i] = h
		default:
			h := slices.Index(cur[a:b], e)
			ok = h >= 0
			c.newSrc[i] = int32(a + h)
		}
	}
	for i := a; i < b; i++ {
		e := s.plan[i]
		if e >= 0 {
			c.head[e] = -1
		}
		if ok && e != fin[i] {
			s.plan[i], s.src[i] = fin[i], c.newSrc[i]
		}
	}
	return ok
}
