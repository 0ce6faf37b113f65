package schedule

// chain looks for copies that make room for each other. A GPU without a free slot
// can receive only if it sends away an expert of which it has the last copy; the GPU
// that this goes to must have room, or send one away in its turn; and so on to a GPU
// with room, or around to one on the way. Every GPU without room has such an expert,
// so that with idle links a walk always ends: no cycle of last copies is too tight
// for one copy a GPU and round.
type chain struct {
	seen []bool // GPUs
	on   []bool // those on the way
	way  []int  // requests found to make room for each other
}

func (c *chain) init(gpus int) { c.seen, c.on = make([]bool, gpus), make([]bool, gpus) }

// serveRequests serves what the links that are still idle allow of the requests
// that are at least so urgent.
func (s *scheduler) serveRequests(urgency int) {
	for r := range s.req {
		q := &s.req[r]
		// A cycle elsewhere may have made room: as long as one does, try again.
		for !q.done && s.received(q.gpu) < s.PerGPU && (urgency == 0 || s.urgency(q.expert) == urgency) {
			from, ok := s.source(q)
			clear(s.chain.seen)
			if !ok || !s.walk(r, from) || !s.together(s.chain.way) {
				break
			}
		}
	}
}

// walk finds the way of request r, read from a slot: others that make room for it, around
// to one on the way maybe, and itself. What leads to a cycle from outside has no room.
func (s *scheduler) walk(r, from int) bool {
	c, q := &s.chain, &s.req[r]
	g := q.gpu
	q.from = from
	if c.on[g] || s.room(q) >= 0 {
		c.way = append(c.way[:0], r)
		return true
	}
	if c.seen[g] {
		return false
	}
	c.seen[g], c.on[g] = true, true
	defer func() { c.on[g] = false }()
	for slot := s.first[g]; slot < s.first[g+1]; slot++ {
		x := s.plan[slot]
		if s.touched(slot) || s.kept[slot] || x < 0 {
			continue
		}
		for _, next := range s.reqBy.of(x) {
			if p := &s.req[next]; p.done || !s.open(g, p.gpu) || !s.walk(next, slot) {
				continue
			}
			c.way = append(c.way, r)
			return true
		}
	}
	return false
}

// urgency says how soon an expert must be copied: 2 = it is nowhere, 1 = it is on
// leaving GPUs alone. Nobody has copied it in this round yet.
func (s *scheduler) urgency(e int) int {
	hold := s.hold.of(e)
	if s.live[e] > len(hold) || s.stays(e) {
		return 0
	}
	if len(hold) == 0 {
		return 2
	}
	return 1
}

// source picks the slot that a request is read from: on its node, else on the least
// busy GPU that holds the expert at the round's start and may still send. Outside
// where no GPU holds it. ok is false where all holders are busy.
func (s *scheduler) source(q *request) (slot int, ok bool) {
	hold := s.hold.of(q.expert)
	if len(hold) == 0 {
		// One load a round: others copy it later.
		return outsideRead, s.live[q.expert] == 0 && s.open(outsideRead, q.gpu)
	}
	slot = s.nearest(q, hold, func(h int) (int, bool) { return s.sent(h), s.open(h, q.gpu) })
	return slot, slot >= 0
}

// nearest picks of the slots that hold an expert the one that a request is read from:
// on its node, else on the GPU that is least busy, of those that are open; ties to the
// lowest. -1 = none.
func (s *scheduler) nearest(q *request, hold []int, busy func(h int) (n int, open bool)) int {
	best, least, near := -1, 0, false
	for _, i := range hold {
		h := s.gpuOf[i]
		same := s.node[h] == s.node[q.gpu]
		if n, open := busy(h); open && (best < 0 || same && !near || same == near && n < least) {
			best, least, near = i, n, same
		}
	}
	return best
}
