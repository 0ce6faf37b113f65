package prefill

import (
	"slices"

	"github.com/moelb/moelb/internal/ledger"
)

// Assigner is what a scheduler holds to place requests one by one; policies can
// be swapped behind it. A Balancer is one.
type Assigner interface {
	// Add places a request and returns its rank; Full = it fits nowhere now.
	Add(Request) (rank int, err error)
	// Done takes it off again: its prefill has ended.
	Done(ID) error
}

// Former is what a scheduler holds that hands over its queue, and asks at every
// step boundary what runs next. A Balancer is one.
type Former interface {
	Enqueue(Request) error
	Step(dst []Chunk) []Chunk
	Done(ID) error
}

var (
	_ Assigner = (*Balancer)(nil)
	_ Former   = (*Balancer)(nil)
)

// Balancer places prompts on the ranks of one unit, and is its ledger. It has no
// clock, no I/O and no goroutines; the same calls give the same answers on every
// platform. It is not safe for concurrent use: see Safe.
//
// Requests come in one of two ways. Add decides at once, and the rank itself then
// runs what it has been given until Done. Enqueue leaves the decision to Step,
// which forms the steps of all ranks jointly and forgets a request with its last
// chunk. Use one or the other: Step does not see when the ranks run what was added.
type Balancer struct {
	cfg      Config // without Speed and MaxKV: the ranks have them
	cost     Cost
	expand   int64 // pairs that a chunk costs for each token of its prefix
	requests []request
	free     []int32
	ids      ledger.Table
	ranks    []rank
	live     int     // ranks that take new requests
	power    float64 // their speeds together
	roomiest int64   // the most tokens that any rank holds, in service or not
	limited  bool    // some rank has a MaxKV
	unlike   bool    // not all that take new requests are of one speed
	turn     int     // of ranks that are alike, the first from here on comes first
	views    []view
	blocks   []view // the least figures of so many views each: no rank is less
	seen     Work   // sum of what the views hold
	total    Work   // of all requests, in the queue and on ranks
	queue    []int32
	holes    int     // entries of queue that are -1
	clock    float64 // seconds that the steps formed so far take
	ended    []int32 // by the latest step
	credits  []credited
	bound    Work // of all requests if nothing were cached: no ledger exceeds it
	seq      int64

	levels   []*level // of the queue, the highest priority first; those that hold something
	spare    []*level
	sharers  []entry // of the queue, held back for a prefix: a heap, by when they are let go
	late     lateness
	observed observed

	former former
}

// Enqueue leaves a request to the following steps. Errors: ErrValue, ErrKnown;
// ErrNever where it is too long for every rank that may take it, in service or not;
// ErrState where the unit has more work than can be counted. O(1), and the values
// in CachedAt and Among.
func (b *Balancer) Enqueue(r Request) error {
	if err := b.check(&r); err != nil {
		return err
	}
	if err := b.countable(&r); err != nil {
		return err
	}
	s := b.enter(&r, r.Cached, queued)
	q := &b.requests[s]
	q.remember(&r)
	b.recache(q)
	q.came = b.clock
	b.comes(q)
	q.priority = r.Priority
	b.observed.came++
	q.place = int32(len(b.queue))
	b.queue = append(b.queue, s)
	if r.Shared > 0 {
		if l := b.ids.Find(uint64(r.Leader)); l >= 0 && l != s {
			q.shared = r.Shared
			b.link(s, l)
			if b.requests[l].state == held {
				b.credit(l, false)
			}
		}
	}
	b.wait(s)
	return nil
}

// SetCached tells that a queued request's cached prefix has changed: on one
// rank where caches are local, on all with rank -1. Errors: ErrUnknown, ErrValue;
// ErrState where the request is not in the queue. O(1); O(ranks) where the best of
// the caches grows worse.
func (b *Balancer) SetCached(id ID, rank int, cached int64) error {
	s := b.ids.Find(uint64(id))
	if s < 0 {
		return unknown(id)
	}
	q := &b.requests[s]
	switch {
	case q.state != queued:
		return bad(ErrState, "id", -1, "request %d is not in the queue", id)
	case q.where.Local != (rank >= 0) || rank < -1 || rank >= len(b.ranks):
		return bad(ErrValue, "rank", -1, "%d: a rank is needed where caches are local, -1 where they are not", rank)
	case cached < 0 || cached > q.tokens:
		return bad(ErrValue, "cached", -1, "%d of %d tokens", cached, q.tokens)
	}
	if !q.where.Local {
		q.cached = cached
		b.settled(s)
	}
	b.setCached(q, rank, cached)
	return nil
}

// Done takes a request off whose prefill has ended: one that was added, and lets
// those go on that wait for its prefix, which is now cached. One that Step has not
// ended, queued or started, is cancelled. Errors: ErrUnknown for an id that is not
// here, because it never was, is done, or had its last chunk.
func (b *Balancer) Done(id ID) error { return b.end(id, true) }

// Cancel takes a request off in whatever state: its client went away, or the
// engine evicted it. Nothing of it counts as computed. Errors: ErrUnknown.
func (b *Balancer) Cancel(id ID) error { return b.end(id, false) }

func (b *Balancer) end(id ID, done bool) error {
	s := b.ids.Find(uint64(id))
	if s < 0 {
		return unknown(id)
	}
	if done && b.requests[s].state == added {
		b.credit(s, false)
	}
	b.leave(s)
	b.remove(s)
	return nil
}

func unknown(id ID) error { return bad(ErrUnknown, "id", -1, "no request %d", id) }

// credit lets those go on that wait for a request's prefix, which is now cached;
// latest: by the step that is being formed.
func (b *Balancer) credit(s int32, latest bool) {
	q := &b.requests[s]
	for q.follower >= 0 {
		w := q.follower
		r := &b.requests[w]
		b.unfollow(w)
		switch {
		case !r.where.Local && r.shared > r.pos:
			if latest {
				b.credits = append(b.credits, credited{w, q.rank, r.seq, r.pos})
			}
			b.setCached(r, -1, r.shared)
		case r.where.Local && r.shared > r.where.On(int(q.rank)):
			b.setCached(r, int(q.rank), r.shared)
		}
	}
}

// start moves a request from the queue to a rank.
func (b *Balancer) start(s int32, g int) {
	q := &b.requests[s]
	pos := q.at(g)
	b.unfollow(s)
	b.leave(s)
	b.settleOn(s, g, pos, started)
	q.from = pos
	b.turn = g + 1
	if b.turn == len(b.ranks) {
		b.turn = 0
	}
}

// settleOn enters a request that is nowhere into a rank's ledger at pos.
func (b *Balancer) settleOn(s int32, g int, pos int64, state uint8) {
	q := &b.requests[s]
	k := &b.ranks[g]
	b.total = b.total.less(q.work())
	q.pos = pos
	w := q.work()
	b.total = b.total.plus(w)
	q.rank, q.state = int32(g), state
	if state == started {
		k.started = append(k.started, s)
		k.startedKV += q.tokens
	} else {
		q.place = int32(len(k.added))
		k.added = append(k.added, s)
	}
	k.kv += q.tokens
	k.requests++
	k.work = k.work.plus(w)
}

// leave takes a request out of the queue, or off its rank and out of the rank's
// ledger.
func (b *Balancer) leave(s int32) {
	q := &b.requests[s]
	if q.state == queued {
		b.unwait(s)
		b.queue[q.place] = -1
		b.holes++
		return
	}
	k := &b.ranks[q.rank]
	if q.state == started {
		i := slices.Index(k.started, s)
		k.started = slices.Delete(k.started, i, i+1)
		k.startedKV -= q.tokens
	} else {
		last := len(k.added) - 1
		k.added[q.place] = k.added[last]
		b.requests[k.added[last]].place = q.place
		k.added = k.added[:last]
	}
	k.kv -= q.tokens
	k.work = k.work.less(q.work())
	k.requests--
	b.changed(int(q.rank))
}

// remove forgets a request that has left.
func (b *Balancer) remove(s int32) {
	q := &b.requests[s]
	b.total = b.total.less(q.work())
	b.unfollow(s)
	for q.follower >= 0 {
		b.unfollow(q.follower)
	}
	b.ids.Remove(uint64(q.id))
	b.release(s)
}

// release frees a request's slot.
func (b *Balancer) release(s int32) {
	q := &b.requests[s]
	b.bound = b.bound.less(WorkOf(q.tokens, 0))
	q.state = vacant
	b.free = append(b.free, s)
}
