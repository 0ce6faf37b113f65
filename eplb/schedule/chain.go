package schedule

// Chains are copies that make room for each other. A GPU without a free slot
// can receive only if it sends away an expert of which it has the last copy; the GPU
// that this goes to must have room, or send one away in its turn; and so on to a GPU
// with room, or around to one on the way. Every GPU without room has such an expert,
// so that with idle links a walk always ends: no cycle of last copies is too tight
// for one copy a GPU and round.

// serveRequests serves what the links that are still idle allow of the requests
// that are so urgent, and not yet copied in the round; 0 = of all.
func (s *scheduler) serveRequests(urgency int) {
	for r := range s.req {
		q := &s.req[r]
		// A cycle elsewhere may have made room: as long as one does, try again.
		for !q.done && s.in[all][q.gpu] < s.PerGPU && (urgency == 0 || q.urgency == urgency && s.live[q.expert] <= len(s.hold[q.expert])) {
			clear(s.seen)
			if !s.source(q) || !s.walk(r) || !s.together(s.way) {
				break
			}
		}
	}
}

// walk finds the way of request r: others that make room for it, around
// to one on the way maybe, and itself. What leads to a cycle from outside has no room.
func (s *scheduler) walk(r int) bool {
	q := &s.req[r]
	g := q.gpu
	if s.busy[g] || s.room(q) >= 0 {
		s.way = append(s.way[:0], r)
		return true
	}
	if s.seen[g] {
		return false
	}
	s.seen[g], s.busy[g] = true, true
	defer func() { s.busy[g] = false }()
	for slot := s.first[g]; slot < s.first[g+1]; slot++ {
		x := s.plan[slot]
		if x < 0 || s.touched(slot) || s.kept(slot) {
			continue
		}
		for _, next := range s.reqBy[x] {
			if p := &s.req[next]; !p.done && s.open(g, p.gpu) {
				if p.from = slot; s.walk(next) {
					s.way = append(s.way, r)
					return true
				}
			}
		}
	}
	return false
}

// source picks the slot that a request is read from: on its node, else on the least
// busy GPU that holds the expert at the round's start and may still send. Outside
// where no GPU holds it, once a round: others copy it later. It says whether there is one.
func (s *scheduler) source(q *request) bool {
	if len(s.hold[q.expert]) == 0 {
		q.from = outsideRead
		return s.live[q.expert] == 0 && s.open(outsideRead, q.gpu)
	}
	q.from = s.nearest(q, s.out[all], true)
	return q.from >= 0
}

// nearest picks of the slots that hold its expert the one that a request is read from:
// on its node, else on the GPU that is least busy, of those that are open, if that
// counts; ties to the lowest. -1 = none.
func (s *scheduler) nearest(q *request, busy []int, open bool) int {
	best, least, near := -1, 0, false
	for _, i := range s.hold[q.expert] {
		h := s.gpuOf[i]
		same := s.node[h] == s.node[q.gpu]
		if (best < 0 || same && !near || same == near && busy[h] < least) && (!open || s.open(h, q.gpu)) {
			best, least, near = i, busy[h], same
		}
	}
	return best
}
