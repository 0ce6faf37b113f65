package eplb

import "slices"

// chainSearch looks for copies that make room for each other. A GPU without a
// safe spare slot can receive only if it sends away an expert of which it has
// the last copy; the GPU that this goes to must have room, or send one away in
// its turn; and so on to a GPU with room, or around to one on the way. Every
// GPU without room has such an expert, so that with idle links a walk always
// ends: no cycle of last copies is too tight for one copy a GPU and round.
type chainSearch struct {
	path []link
	on   []int32 // 1 + place on the path, 0 = not on it
	seen []bool
}

// link is an expert that leaves GPU from, where it sits in slot, to serve a request.
type link struct{ from, slot, request int32 }

func (c *chainSearch) init(gpus int) {
	c.on = make([]int32, gpus)
	c.seen = make([]bool, gpus)
}

// chainPass serves what the links that are still idle allow: all requests, or
// only those for experts that no GPU holds.
func (s *scheduler) chainPass(lostOnly bool) {
	for r := range s.req {
		q := &s.req[r]
		// A cycle elsewhere may have made room: as long as one does, try again.
		for !q.done && s.recvLeft[q.gpu] > 0 && !(lostOnly && s.copies[q.expert] > 0) {
			if !s.serve(int32(r)) {
				break
			}
		}
	}
}

// serve tries to serve request r and says whether anything moved.
func (s *scheduler) serve(r int32) bool {
	q := &s.req[r]
	from, ok := s.source(r)
	if !ok {
		return false
	}
	if s.hasRoom(q.gpu) {
		s.receive(r, from, -1)
		return true
	}
	c := &s.chain
	c.path = c.path[:0]
	clear(c.on)
	clear(c.seen)
	if !s.walk(q.gpu) {
		return false
	}
	first := c.on[s.req[c.path[len(c.path)-1].request].gpu] // > 0: a cycle from there
	path := c.path[max(0, first-1):]
	for _, e := range path {
		s.copies[s.req[e.request].expert]++
	}
	for i := len(path) - 1; i >= 0; i-- {
		e := path[i]
		to := s.req[e.request].gpu
		prefer := int32(-1)
		for _, f := range path {
			if f.from == to {
				prefer = f.slot
			}
		}
		slot := s.room(to, s.req[e.request].want, prefer)
		s.vacate(slot)
		s.deliver(e.request, e.slot, slot)
	}
	if first == 0 && s.recvLeft[q.gpu] > 0 && s.hasRoom(q.gpu) {
		if from, ok := s.source(r); ok {
			s.receive(r, from, -1)
		}
	}
	return true
}

// receive serves request r into a safe spare slot.
func (s *scheduler) receive(r, from, prefer int32) {
	q := &s.req[r]
	slot := s.room(q.gpu, q.want, prefer)
	s.copies[q.expert]++
	s.vacate(slot)
	s.deliver(r, from, slot)
}

// walk extends the path from GPU g, which has no room.
func (s *scheduler) walk(g int32) bool {
	c := &s.chain
	c.seen[g] = true
	if s.sendLeft[g] == 0 {
		return false
	}
	c.path = append(c.path, link{from: g})
	c.on[g] = int32(len(c.path))
	for _, slot := range s.spare.of(g) {
		if s.used[slot] {
			continue
		}
		for _, r := range s.reqBy.of(s.plan[slot]) {
			q := &s.req[r]
			if q.done || s.recvLeft[q.gpu] == 0 {
				continue
			}
			c.path[len(c.path)-1] = link{g, slot, r}
			if c.on[q.gpu] > 0 || s.hasRoom(q.gpu) || !c.seen[q.gpu] && s.walk(q.gpu) {
				return true
			}
		}
	}
	c.on[g] = 0
	c.path = c.path[:len(c.path)-1]
	return false
}

// localCopies settles GPUs that have all their experts, some in another slot
// than the one they are to have.
type localCopies struct {
	mark   []bool
	head   []int32 // by expert: a slot that holds it in the wrong place
	next   []int32 // by slot: another one
	newSrc []int32
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
	if !s.reorder(g) {
		s.restoreSpare(spare)
		return
	}
	for _, slot := range spare {
		s.local.mark[slot] = false
	}
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
		if s.plan[i] == e {
			continue
		}
		if e < 0 {
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
		if e := s.plan[i]; e >= 0 {
			c.head[e] = -1
		}
		if ok && s.plan[i] != fin[i] {
			s.src[i] = c.newSrc[i]
		}
	}
	if ok {
		for i := a; i < b; i++ {
			s.plan[i] = fin[i]
		}
	}
	return ok
}
