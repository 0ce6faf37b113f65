package schedule

import "slices"

// chain looks for copies that make room for each other. A GPU without a free slot
// can receive only if it sends away an expert of which it has the last copy; the GPU
// that this goes to must have room, or send one away in its turn; and so on to a GPU
// with room, or around to one on the way. Every GPU without room has such an expert,
// so that with idle links a walk always ends: no cycle of last copies is too tight
// for one copy a GPU and round.
type chain struct {
	seen    []bool
	waiting []int // slot that each GPU on the way is about to send away, -1 = none
	around  int   // the GPU at which the walk has closed a cycle, until it is done; -1 = none
	mark    int   // puts before that
}

func (c *chain) init(gpus int) {
	c.seen, c.waiting, c.around = make([]bool, gpus), slices.Repeat([]int{-1}, gpus), -1
}

// outcome is what became of a request.
type outcome int

const (
	stuck outcome = iota
	served
	moved // not served, but others were
)

// serveRequests serves what the links that are still idle allow of the requests
// that are at least so urgent.
func (s *scheduler) serveRequests(urgency int) {
	for r := range s.req {
		q := &s.req[r]
		// A cycle elsewhere may have made room: as long as one does, try again.
		for !q.done && s.received(q.gpu) < s.PerGPU && (urgency == 0 || s.urgency(q.expert) == urgency) {
			from, ok := s.source(q)
			if !ok {
				break
			}
			if clear(s.chain.seen); s.walk(r, from) == stuck {
				break
			}
		}
	}
}

// walk serves request r from a slot, after others that make room for it.
func (s *scheduler) walk(r, from int) outcome {
	c, q := &s.chain, &s.req[r]
	g := q.gpu
	if slot := c.waiting[g]; slot >= 0 {
		c.mark = len(s.puts)
		if !s.put(slot, r, from) {
			return stuck
		}
		c.around = g
		return served
	}
	if slot := s.room(q); slot >= 0 {
		if s.put(slot, r, from) {
			return served
		}
		return stuck
	}
	if c.seen[g] || s.sent(g) >= s.PerGPU {
		return stuck
	}
	c.seen[g] = true
	for slot := s.first[g]; slot < s.first[g+1]; slot++ {
		x := s.plan[slot]
		if s.touched(slot) || s.kept[slot] || x < 0 {
			continue
		}
		c.waiting[g] = slot
		for _, next := range s.reqBy.of(x) {
			if p := &s.req[next]; p.done || !s.open(g, p.gpu) {
				continue
			}
			if o := s.walk(next, slot); o != stuck {
				c.waiting[g] = -1
				if o == moved {
					return moved
				}
				return s.follow(r, from, slot)
			}
		}
		c.waiting[g] = -1
	}
	return stuck
}

// follow serves request r where what its slot held has been sent away.
func (s *scheduler) follow(r, from, slot int) outcome {
	c, q := &s.chain, &s.req[r]
	switch {
	case c.around == q.gpu: // the slot has been filled from the other side
		c.around = -1
		return moved
	case s.put(slot, r, from):
		return served
	case c.around >= 0: // then the cycle cannot be
		s.undo(c.mark)
		c.around = -1
		return stuck
	}
	return moved
}

// urgency says how soon an expert must be copied: 2 = it is nowhere, 1 = it is on
// leaving GPUs alone. Nobody has copied it in this round yet.
func (s *scheduler) urgency(e int) int {
	hold := s.hold.of(e)
	if s.live[e] > len(hold) || slices.ContainsFunc(hold, func(slot int) bool { return !s.leaving[s.gpuOf[slot]] }) {
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
