package prefill

import (
	"math"
	"slices"

	"github.com/moelb/moelb/prefill/internal/pack"
)

// ID is the caller's own name for a request: known from the call that enters the
// request until it ends, and free again from then on.
type ID uint64

// Request is a prompt to prefill.
type Request struct {
	ID     ID
	Tokens int64 // all its tokens, 1 to MaxPrompt
	// Cached are the tokens of its prefix that need no work on any rank.
	Cached int64
	// CachedAt, where caches are local to ranks, says the same for each of them
	// instead of Cached. It is copied.
	CachedAt []int64
	// Among: only these ranks may take it; nil = all. It is copied.
	Among []int
	// Shared > 0: once request Leader has been prefilled, so many tokens of this
	// one's prefix will be cached: on Leader's rank if CachedAt is given, on all
	// otherwise. Enqueue holds this request back until then, within the bound on
	// its age; an unknown Leader is no reason to wait.
	Leader ID
	Shared int64
	// Priority: of those in the queue, who has a higher one starts first, until one of
	// a lower priority has waited for Config.Patience.
	Priority int64
}

func (r *Request) cachedOn(g int) int64 {
	if r.CachedAt != nil {
		return r.CachedAt[g]
	}
	return r.Cached
}

// states of a request
const (
	vacant uint8 = iota
	added
	queued
	started
	held  // computed, its KV not yet gone
	ended // by the latest step, and forgotten but for a death
)

type request struct {
	id       ID
	tokens   int64
	pos      int64 // tokens cached or computed; while queued, those cached where most are
	cached   int64 // on all ranks, as it was told
	seq      int64
	came     float64 // clock when it came
	until    float64 // clock, to which it is held back for a leader that has not started; unknownUntil = its turn has not come
	key      float64 // its order in its heap
	priority int64
	from     int64 // once started: the tokens that were cached
	shared   int64
	where    pack.Where // what of it is in use
	rank     int32
	place    int32 // in the queue, or among what was added to its rank
	leader   int32 // -1 = none
	follower int32 // first of those who wait for this one; -1 = none
	next     int32 // next who waits for the same; -1 = none
	prev     int32
	state    uint8
	home     int32 // where it waits
	class    int16 // of those who wait, or notWaiting, or heldBack
	spot     int32 // in its heap
	item     int32 // among the items of the step that is being formed; -1 = not there
}

func (r *request) left() int64 { return r.tokens - r.pos }
func (r *request) work() Work  { return WorkOf(r.left(), r.pos) }

// at returns the tokens cached on rank g while the request is queued.
func (r *request) at(g int) int64 {
	if r.where.Local {
		return r.where.On(g)
	}
	return r.pos
}

// remember copies what a request says of the ranks.
func (r *request) remember(from *Request) {
	r.cached, r.where.Local, r.where.Pinned = from.Cached, from.CachedAt != nil, from.Among != nil
	if r.where.Local {
		r.cached = 0
		r.where.CachedAt = append(r.where.CachedAt[:0], from.CachedAt...)
	}
	if r.where.Pinned {
		r.where.Among = r.where.Among[:0]
		for _, g := range from.Among {
			r.where.Among = append(r.where.Among, int32(g))
		}
		slices.Sort(r.where.Among)
		r.where.Among = slices.Compact(r.where.Among)
	}
}

// able reports whether a request may start on a rank now.
func (b *Balancer) able(g int, q *request) bool { return b.ranks[g].open && q.where.May(g) }

// recache brings the best cache of a queued request up to date: that of the ranks
// on which it may start now.
func (b *Balancer) recache(q *request) {
	if !q.where.Local {
		return
	}
	b.total = b.total.less(q.work())
	q.pos = 0
	for g, c := range q.where.CachedAt {
		if c > q.pos && b.able(g, q) {
			q.pos = c
		}
	}
	b.total = b.total.plus(q.work())
	b.reorder(q)
}

// setCached changes what is cached of a queued request.
func (b *Balancer) setCached(q *request, rank int, cached int64) {
	if !q.where.Local {
		b.total = b.total.less(q.work())
		q.pos = cached
		b.total = b.total.plus(q.work())
		b.reorder(q)
		return
	}
	for len(q.where.CachedAt) <= rank {
		q.where.CachedAt = append(q.where.CachedAt, 0)
	}
	old := q.where.CachedAt[rank]
	q.where.CachedAt[rank] = cached
	switch {
	case !b.able(rank, q):
	case cached >= q.pos:
		b.total = b.total.less(q.work())
		q.pos = cached
		b.total = b.total.plus(q.work())
		b.reorder(q)
	case old == q.pos:
		b.recache(q)
	}
}

// check reports what is wrong with a new request, and that no rank could hold it.
func (b *Balancer) check(r *Request) error {
	if err := b.checkValues(r); err != nil {
		return err
	}
	room := b.roomiest
	if r.Among != nil {
		room = 0
		for _, g := range r.Among {
			room = max(room, b.ranks[g].room())
		}
	}
	switch {
	case r.Among != nil && len(r.Among) == 0:
		return bad(ErrNever, "among", -1, "no rank may take it")
	case r.Tokens > room:
		return bad(ErrNever, "tokens", -1, "%d are more than any rank that may take them holds, %d", r.Tokens, room)
	}
	return nil
}

// checkValues is check without regard to what may take the request.
func (b *Balancer) checkValues(r *Request) error {
	switch {
	case r.Tokens < 1 || r.Tokens > MaxPrompt:
		return bad(ErrValue, "tokens", -1, "%d: from 1 to %d are needed", r.Tokens, int64(MaxPrompt))
	case r.Cached < 0 || r.Cached > r.Tokens:
		return bad(ErrValue, "cached", -1, "%d of %d tokens", r.Cached, r.Tokens)
	case r.Shared < 0 || r.Shared > r.Tokens:
		return bad(ErrValue, "shared", -1, "%d of %d tokens", r.Shared, r.Tokens)
	case r.CachedAt != nil && len(r.CachedAt) != len(b.ranks):
		return bad(ErrValue, "cached", -1, "%d values for %d ranks", len(r.CachedAt), len(b.ranks))
	case len(r.Among) > MaxRanks:
		return bad(ErrValue, "among", -1, "%d ranks: at most %d are supported", len(r.Among), MaxRanks)
	}
	for g, c := range r.CachedAt {
		if c < 0 || c > r.Tokens {
			return bad(ErrValue, "cached", g, "%d of %d tokens", c, r.Tokens)
		}
	}
	for i, g := range r.Among {
		if g < 0 || g >= len(b.ranks) {
			return bad(ErrValue, "among", i, "%d is not from 0 to %d", g, len(b.ranks)-1)
		}
	}
	if b.ids.Find(uint64(r.ID)) >= 0 {
		return bad(ErrKnown, "id", -1, "request %d is here already", r.ID)
	}
	return nil
}

// countable reports whether the ledgers can count a request's work, cached or not.
func (b *Balancer) countable(r *Request) error {
	const most = math.MaxInt64 / 4
	if w := b.bound.plus(WorkOf(r.Tokens, 0)); w.Tokens > most || w.Pairs > most || w.Pairs < 0 {
		return bad(ErrState, "tokens", -1, "%d beside requests of %d: more work than can be counted", r.Tokens, b.bound.Tokens)
	}
	return nil
}

// enter makes a record of a request that is nowhere yet and returns its slot.
func (b *Balancer) enter(r *Request, pos int64, state uint8) int32 {
	s := b.slot()
	q := &b.requests[s]
	*q = request{id: r.ID, tokens: r.Tokens, pos: pos, seq: b.seq, rank: -1, leader: -1, follower: -1, next: -1, prev: -1, state: state, class: notWaiting, item: -1, until: unknownUntil, where: pack.Where{CachedAt: q.where.CachedAt, Among: q.where.Among}}
	b.seq++
	b.ids.Add(uint64(r.ID), s)
	b.total = b.total.plus(q.work())
	b.bound = b.bound.plus(WorkOf(q.tokens, 0))
	return s
}

// slot returns a free slot.
func (b *Balancer) slot() int32 {
	if n := len(b.free); n > 0 {
		s := b.free[n-1]
		b.free = b.free[:n-1]
		return s
	}
	b.requests = append(b.requests, request{})
	return int32(len(b.requests) - 1)
}

// link puts queued request s among those who share a prefix with l.
func (b *Balancer) link(s, l int32) {
	q, lead := &b.requests[s], &b.requests[l]
	q.leader, q.next, q.prev = l, lead.follower, -1
	if q.next >= 0 {
		b.requests[q.next].prev = s
	}
	lead.follower = s
}

// unfollow ends a wait.
func (b *Balancer) unfollow(s int32) {
	q := &b.requests[s]
	if q.leader < 0 {
		return
	}
	if q.prev >= 0 {
		b.requests[q.prev].next = q.next
	} else {
		b.requests[q.leader].follower = q.next
	}
	if q.next >= 0 {
		b.requests[q.next].prev = q.prev
	}
	q.leader, q.next, q.prev = -1, -1, -1
	if q.class == heldBack {
		b.rewait(s)
	}
}
