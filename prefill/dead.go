package prefill

import (
	"cmp"
	"slices"
)

// Lost is a request that a dead rank held.
type Lost struct {
	ID     ID
	Tokens int64
	// Computed are those of its tokens that were cached or computed there.
	Computed int64
	// Queued: it is in the queue again, with the age that it had, to be computed
	// from its beginning. Otherwise it is gone, and its caller adds it again.
	Queued bool
}

// credited is what a queued request was credited with in the latest step.
type credited struct {
	slot int32
	rank int32 // whose prompt it was
	seq  int64 // of the request: slots are used again
	old  int64
}

// Dead says that a rank is gone with all that it held, and appends that to dst, the
// oldest first. What was enqueued is in the queue again; what was added is gone.
// Nothing that the rank computed counts: what the latest step gave it is lost, a
// request whose last chunk was in that step is queued again unless its id is used
// already, and whoever was credited with its prefix is not any more. Those who wait
// for a lost request's prefix wait no longer, and what only this rank cached is
// forgotten. Doing it twice is no error; Restore takes the rank back, empty.
// Errors: ErrValue. O(requests).
func (b *Balancer) Dead(dst []Lost, rank int) ([]Lost, error) {
	if err := b.exists("rank", rank); err != nil {
		return dst, err
	}
	k := &b.ranks[rank]
	b.uncredit(rank)
	held := append(append(b.former.some[:0], k.started...), k.added...)
	rest := b.ended[:0]
	for _, s := range b.ended {
		switch q := &b.requests[s]; {
		case q.rank != int32(rank):
			rest = append(rest, s)
		case b.ids.Find(uint64(q.id)) >= 0:
			b.release(s)
		default:
			b.ids.Add(uint64(q.id), s)
			held = append(held, s)
		}
	}
	b.ended, b.former.some = rest, held
	slices.SortFunc(held, func(x, y int32) int { return cmp.Compare(b.requests[x].seq, b.requests[y].seq) })
	for _, s := range held {
		q := &b.requests[s]
		lost := Lost{q.id, q.tokens, q.pos, q.state != added && q.tokens <= b.roomFor(q)}
		dst = append(dst, lost)
		if q.state != ended {
			b.leave(s)
		}
		if lost.Queued {
			b.requeue(s)
		} else {
			b.remove(s)
		}
	}
	b.sortQueue()
	for i := range b.requests {
		if q := &b.requests[i]; q.state != vacant && q.where.Local && q.where.On(rank) > 0 {
			q.where.CachedAt[rank] = 0
			if q.state == queued {
				b.recache(q)
			}
		}
	}
	k = &b.ranks[rank]
	k.others, k.heard, k.epoch, k.reported = Work{}, false, 0, 0
	b.become(rank, Dead)
	b.look(rank)
	return dst, nil
}

// uncredit takes back what the latest step credited for a rank's prompts. What its
// own cache had goes with the cache.
func (b *Balancer) uncredit(rank int) {
	for _, c := range b.credits {
		if int(c.rank) == rank && b.pending(c) {
			b.setCached(&b.requests[c.slot], -1, c.old)
		}
	}
}

// pending reports whether a credit may still be taken back.
func (b *Balancer) pending(c credited) bool {
	q := &b.requests[c.slot]
	return q.seq == c.seq && q.state == queued
}

// settled makes what a request was credited with its own.
func (b *Balancer) settled(s int32) {
	b.credits = slices.DeleteFunc(b.credits, func(c credited) bool { return c.slot == s })
}

// roomFor is the most tokens that any rank holds that may take a request.
func (b *Balancer) roomFor(q *request) int64 {
	if !q.where.Pinned {
		return b.roomiest
	}
	room := int64(0)
	for _, g := range q.where.Among {
		room = max(room, b.ranks[g].room())
	}
	return room
}

// requeue puts a request that is nowhere back into the queue, at its end: see
// sortQueue.
func (b *Balancer) requeue(s int32) {
	q := &b.requests[s]
	b.unfollow(s)
	for q.follower >= 0 {
		b.unfollow(q.follower)
	}
	b.total = b.total.less(q.work())
	q.state, q.rank, q.pos, q.from, q.until = queued, -1, q.cached, 0, unknownUntil
	b.total = b.total.plus(q.work())
	b.recache(q)
	q.place = int32(len(b.queue))
	b.queue = append(b.queue, s)
	b.wait(s)
}

// sortQueue puts the queue in order of age again.
func (b *Balancer) sortQueue() {
	b.compact()
	older := func(x, y int32) int { return cmp.Compare(b.requests[x].seq, b.requests[y].seq) }
	if slices.IsSortedFunc(b.queue, older) {
		return
	}
	slices.SortFunc(b.queue, older)
	for i, s := range b.queue {
		b.requests[s].place = int32(i)
	}
}

// forget lets go of what the step before the next one ended.
func (b *Balancer) forget() {
	for _, s := range b.ended {
		b.release(s)
	}
	b.ended, b.credits = b.ended[:0], b.credits[:0]
}
