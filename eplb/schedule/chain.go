package schedule

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

// chainPass serves what the links that are still idle allow of the requests that
// are at least so urgent.
func (s *scheduler) chainPass(urgency int) {
	for r := range s.req {
		q := &s.req[r]
		// A cycle elsewhere may have made room: as long as one does, try again.
		for !q.done && s.recvLeft[q.gpu] > 0 && (urgency == 0 || s.urgent(q.expert) == urgency) {
			if !s.serveRequest(int32(r)) {
				break
			}
		}
	}
}

// serveRequest tries to serve request r and says whether anything moved.
func (s *scheduler) serveRequest(r int32) bool {
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
	if first == 0 && s.hasRoom(q.gpu) {
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
			if q.done || !s.open(g, q.gpu) {
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
