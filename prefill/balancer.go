package prefill

import (
	"errors"
	"fmt"
	"math"
)

// What can be wrong with a call. Every error wraps one of these, and a call that
// returns one has changed nothing.
var (
	ErrValue    = errors.New("value out of range")
	ErrUnknown  = errors.New("unknown request")
	ErrKnown    = errors.New("request is known already")
	ErrOverflow = errors.New("too much work")
	ErrFull     = errors.New("fits on no rank")
)

// Assigner is what a scheduler holds to place requests one by one; policies can
// be swapped behind it. A Balancer is one.
type Assigner interface {
	// Assign places a request and returns its rank.
	Assign(Request) (rank int, err error)
	// Done takes it off again: its prefill has ended, or it was cancelled.
	Done(id int64) error
}

// Former is what a scheduler holds that hands over its queue, and asks at every
// step boundary what runs next. A Balancer is one.
type Former interface {
	Enqueue(Request) error
	Step(dst []Chunk) []Chunk
	Done(id int64) error
}

// Request is a prompt to prefill.
type Request struct {
	ID     int64
	Tokens int64 // all its tokens, 1 to MaxPrompt
	// Cached are the tokens of its prefix that need no work on any rank.
	Cached int64
	// CachedAt, where caches are local to ranks, says the same for each of them
	// instead of Cached. It is copied.
	CachedAt []int64
	// Shared > 0: once request Leader has been prefilled, so many tokens of this
	// one's prefix will be cached: on Leader's rank if CachedAt is given, on all
	// otherwise. Enqueue holds this request back until then, within the bound on
	// its age; an unknown Leader is no reason to wait.
	Leader int64
	Shared int64
}

// Config describes a unit. The zero value of each field but Ranks is the
// documented default.
type Config struct {
	Ranks int
	// MaxTokens is how many new tokens a rank takes in one step; 0 = no limit.
	MaxTokens int64
	// Cost is how long a step takes; zero = DeepSeekV3H800.
	Cost Cost
	// MaxKV bounds, for each rank, the tokens of the prompts that Step has
	// started there and not finished, each counted in full; 0 = no limit.
	MaxKV int64
	// Patience bounds overtaking, in seconds of the steps formed: a queued request
	// that has waited so much longer than the work before it should have taken goes
	// before all others. 0 = 20, negative = none.
	Patience float64
	// Routers is how many routers place on the unit beside each other, each with
	// a Balancer of its own and its number Router, 0 to Routers-1; 0 = 1. Router r
	// prefers the ranks g with g mod Routers = r: otherwise all would go for the same
	// rank until they hear of each other.
	Routers, Router int
}

// MaxRanks is the most ranks of a unit.
const MaxRanks = 1 << 16

// Balancer places prompts on the ranks of one unit. It has no clock, no I/O and
// no goroutines; the same calls give the same answers on every platform. It is
// not safe for concurrent use.
//
// Requests come in one of two ways. Assign decides at once, and the rank itself
// then runs what it has been given until Done. Enqueue leaves the decision to
// Step, which forms the steps of all ranks jointly and forgets a request with
// its last chunk. Use one or the other: Step does not see when the ranks run
// what was assigned.
type Balancer struct {
	cfg      Config
	cost     Cost
	expand   int64 // pairs that a chunk costs for each token of its prefix
	requests []request
	free     []int32
	ids      idTable
	ranks    []rank
	live     int // ranks in service
	views    []view
	seen     Work // sum of what the views hold
	total    Work // of all requests, in the queue and on ranks
	queue    []int32
	holes    int     // entries of queue that are -1
	clock    float64 // seconds that the steps formed so far take
	bound    Work    // of all requests if nothing were cached: no ledger exceeds it
	seq      int64

	former
}

// rank is a rank's ledger.
type rank struct {
	work     Work // of its requests, less what Step has given out
	requests int
	started  []int32 // by Step and unfinished, oldest first
	kv       int64   // tokens of the started, in full
	drained  bool

	// What Assign goes by beside work.
	others   Work // the last report less the ledger as of its version
	seen     Work
	version  uint64
	reported uint64
	past     [pastLedgers]Work // the ledger at each of the last versions
}

// states of a request
const (
	vacant uint8 = iota
	assigned
	queued
	started
)

type request struct {
	id       int64
	tokens   int64
	pos      int64 // tokens cached or computed; while queued, those cached where most are
	seq      int64
	came     float64 // clock when it came
	due      float64 // clock at which its patience ends
	urgent   int64   // how it ranks before its age, in this step
	shared   int64
	cachedAt []int64 // in use if local
	rank     int32
	place    int32 // in queue
	leader   int32 // -1 = none
	follower int32 // first of those who wait for this one; -1 = none
	next     int32 // next who waits for the same; -1 = none
	prev     int32
	state    uint8
	local    bool
	passed   bool // it was this one's turn, and no rank had room
	taken    bool // the step that is being formed starts it
}

func (r *request) left() int64 { return r.tokens - r.pos }
func (r *request) work() Work  { return WorkOf(r.left(), r.pos) }

// at returns the tokens cached on rank g while the request is queued.
func (r *request) at(g int) int64 {
	if r.local {
		return r.cachedAt[g]
	}
	return r.pos
}

// New returns a balancer for a unit whose ranks are all in service and idle. A
// bad configuration is an error wrapping ErrValue.
func New(cfg Config) (*Balancer, error) {
	if cfg.Cost == (Cost{}) {
		cfg.Cost = DeepSeekV3H800()
	}
	if cfg.Routers == 0 {
		cfg.Routers = 1
	}
	switch c := &cfg.Cost; {
	case cfg.Ranks < 1 || cfg.Ranks > MaxRanks:
		return nil, fmt.Errorf("ranks: %d: from 1 to %d are needed: %w", cfg.Ranks, MaxRanks, ErrValue)
	case cfg.MaxTokens < 0 || cfg.MaxTokens > MaxPrompt:
		return nil, fmt.Errorf("max_tokens: %d: from 0 to %d are needed: %w", cfg.MaxTokens, int64(MaxPrompt), ErrValue)
	case cfg.MaxKV < 0:
		return nil, fmt.Errorf("max_kv: %d is negative: %w", cfg.MaxKV, ErrValue)
	case !(c.Pair >= 0 && c.Token >= 0 && c.Step >= 0 && c.Prefix >= 0 && c.Pair <= 1 && c.Token <= 1 && c.Step <= 1e6 && c.Prefix <= 1):
		return nil, fmt.Errorf("cost: %v: seconds from 0 to 1 a pair and a token, to 10^6 a step, are needed: %w", *c, ErrValue)
	case c.Pair == 0 && c.Token == 0:
		return nil, fmt.Errorf("cost: neither a pair nor a token costs anything: %w", ErrValue)
	case !(math.Abs(cfg.Patience) <= 1e12):
		return nil, fmt.Errorf("patience: %v is not a number of seconds: %w", cfg.Patience, ErrValue)
	case cfg.Routers < 0 || cfg.Router < 0 || cfg.Router >= cfg.Routers:
		return nil, fmt.Errorf("router: %d of %d: %w", cfg.Router, cfg.Routers, ErrValue)
	}
	switch {
	case cfg.Patience == 0:
		cfg.Patience = 20
	case cfg.Patience < 0:
		cfg.Patience = 0
	}
	b := &Balancer{cfg: cfg, cost: cfg.Cost, ranks: make([]rank, cfg.Ranks), live: cfg.Ranks, views: make([]view, cfg.Ranks)}
	if c := cfg.Cost; c.Pair > 0 {
		b.expand = int64(math.Round(min(c.Prefix/c.Pair, 1<<20)))
	}
	b.former.load = make([]load, cfg.Ranks)
	return b, nil
}

// check reports what is wrong with a new request.
func (b *Balancer) check(r *Request) error {
	switch {
	case r.Tokens < 1 || r.Tokens > MaxPrompt:
		return fmt.Errorf("tokens: %d: from 1 to %d are needed: %w", r.Tokens, int64(MaxPrompt), ErrValue)
	case r.Cached < 0 || r.Cached > r.Tokens:
		return fmt.Errorf("cached: %d of %d tokens: %w", r.Cached, r.Tokens, ErrValue)
	case r.Shared < 0 || r.Shared > r.Tokens:
		return fmt.Errorf("shared: %d of %d tokens: %w", r.Shared, r.Tokens, ErrValue)
	case r.CachedAt != nil && len(r.CachedAt) != len(b.ranks):
		return fmt.Errorf("cached: %d values for %d ranks: %w", len(r.CachedAt), len(b.ranks), ErrValue)
	}
	for g, c := range r.CachedAt {
		if c < 0 || c > r.Tokens {
			return fmt.Errorf("cached: rank %d: %d of %d tokens: %w", g, c, r.Tokens, ErrValue)
		}
	}
	if b.ids.find(r.ID) >= 0 {
		return fmt.Errorf("%w: %d", ErrKnown, r.ID)
	}
	return b.room(r)
}

// room reports whether the ledgers can count a request's work, cached or not.
func (b *Balancer) room(r *Request) error {
	const most = math.MaxInt64 / 4
	if w := b.bound.plus(WorkOf(r.Tokens, 0)); w.Tokens > most || w.Pairs > most || w.Pairs < 0 {
		return fmt.Errorf("%w: %d tokens beside requests of %d", ErrOverflow, r.Tokens, b.bound.Tokens)
	}
	return nil
}

// enter makes a record of a request and returns its slot.
func (b *Balancer) enter(r *Request, pos int64, state uint8) int32 {
	var s int32
	if n := len(b.free); n > 0 {
		s = b.free[n-1]
		b.free = b.free[:n-1]
	} else {
		s = int32(len(b.requests))
		b.requests = append(b.requests, request{})
	}
	q := &b.requests[s]
	at := q.cachedAt
	*q = request{id: r.ID, tokens: r.Tokens, pos: pos, seq: b.seq, rank: -1, leader: -1, follower: -1, next: -1, prev: -1, state: state, cachedAt: at}
	b.seq++
	b.ids.add(r.ID, s)
	b.total = b.total.plus(q.work())
	b.bound = b.bound.plus(WorkOf(q.tokens, 0))
	return s
}

// Enqueue leaves a request to the following steps. It is an error, and nothing has
// changed, if the request is bad, known already or too long for any rank.
func (b *Balancer) Enqueue(r Request) error {
	if err := b.check(&r); err != nil {
		return err
	}
	if b.cfg.MaxKV > 0 && r.Tokens > b.cfg.MaxKV {
		return fmt.Errorf("tokens: %d are more than a rank holds: %w", r.Tokens, ErrFull)
	}
	pos := r.Cached
	if r.CachedAt != nil {
		pos = 0
		for _, c := range r.CachedAt {
			pos = max(pos, c)
		}
	}
	before := b.cost.of(b.total) / float64(max(b.live, 1))
	s := b.enter(&r, pos, queued)
	q := &b.requests[s]
	if r.CachedAt != nil {
		q.cachedAt = append(q.cachedAt[:0], r.CachedAt...)
		q.local = true
	}
	q.came = b.clock
	q.due = b.clock + before + b.cfg.Patience
	q.place = int32(len(b.queue))
	b.queue = append(b.queue, s)
	if r.Shared > pos {
		if l := b.ids.find(r.Leader); l >= 0 && l != s {
			b.follow(s, l, r.Shared)
		}
	}
	return nil
}

// follow makes queued request s wait for l.
func (b *Balancer) follow(s, l int32, shared int64) {
	q, lead := &b.requests[s], &b.requests[l]
	q.shared, q.leader, q.next, q.prev = shared, l, lead.follower, -1
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
}

// SetCached tells that a queued request's cached prefix has changed: on one
// rank where caches are local, on all with rank -1. It is an error wrapping
// ErrUnknown or ErrValue if no such request is queued, or the values do not fit it.
func (b *Balancer) SetCached(id int64, rank int, cached int64) error {
	s := b.ids.find(id)
	if s < 0 || b.requests[s].state != queued {
		return fmt.Errorf("%w: %d is not in the queue", ErrUnknown, id)
	}
	q := &b.requests[s]
	if q.local != (rank >= 0) || rank < -1 || rank >= len(b.ranks) {
		return fmt.Errorf("rank: %d: %w", rank, ErrValue)
	}
	if cached < 0 || cached > q.tokens {
		return fmt.Errorf("cached: %d of %d tokens: %w", cached, q.tokens, ErrValue)
	}
	b.setCached(q, rank, cached)
	return nil
}

func (b *Balancer) setCached(q *request, rank int, cached int64) {
	pos := cached
	if q.local {
		old := q.cachedAt[rank]
		pos = max(q.pos, cached)
		if cached < old && old == q.pos {
			pos = cached
			for g, c := range q.cachedAt {
				if g != rank {
					pos = max(pos, c)
				}
			}
		}
	}
	b.total = b.total.less(q.work())
	if q.local {
		q.cachedAt[rank] = cached
	}
	q.pos = pos
	b.total = b.total.plus(q.work())
}

// Done takes a request off: what Assign placed has been prefilled, or a request
// in whatever state is cancelled. An id that is not here, because it never was,
// is done or had its last chunk, is an error wrapping ErrUnknown.
func (b *Balancer) Done(id int64) error {
	s := b.ids.find(id)
	if s < 0 {
		return fmt.Errorf("%w: %d", ErrUnknown, id)
	}
	q := &b.requests[s]
	switch q.state {
	case queued:
		b.queue[q.place] = -1
		b.holes++
	case started:
		b.leave(s)
	}
	b.remove(s)
	return nil
}

// remove takes a request's work out of the ledgers and forgets it.
func (b *Balancer) remove(s int32) {
	q := &b.requests[s]
	w := q.work()
	b.total = b.total.less(w)
	b.bound = b.bound.less(WorkOf(q.tokens, 0))
	if q.rank >= 0 {
		k := &b.ranks[q.rank]
		k.work = k.work.less(w)
		k.requests--
		b.changed(int(q.rank))
	}
	b.unfollow(s)
	for q.follower >= 0 {
		b.unfollow(q.follower)
	}
	b.ids.remove(q.id)
	q.state = vacant
	b.free = append(b.free, s)
}

// Drain takes a rank out of service: nothing new is placed on it; what runs on
// it runs on. Restore takes it back. Doing either twice is no error; a rank that
// does not exist is one, wrapping ErrValue.
func (b *Balancer) Drain(rank int) error { return b.service(rank, true) }

// Restore puts a drained rank back into service.
func (b *Balancer) Restore(rank int) error { return b.service(rank, false) }

func (b *Balancer) service(rank int, drained bool) error {
	if rank < 0 || rank >= len(b.ranks) {
		return fmt.Errorf("rank: %d of %d: %w", rank, len(b.ranks), ErrValue)
	}
	if k := &b.ranks[rank]; k.drained != drained {
		k.drained = drained
		if drained {
			b.live--
		} else {
			b.live++
		}
		b.look(rank)
	}
	return nil
}

// RankStats is a rank's ledger: requests placed on it and not done, and their
// work less what Step has given out.
type RankStats struct {
	Requests int
	Work     Work
	Drained  bool
}

// Rank returns the ledger of a rank, which must exist.
func (b *Balancer) Rank(rank int) RankStats {
	k := &b.ranks[rank]
	return RankStats{k.requests, k.work, k.drained}
}

// Ranks returns how many ranks the unit has, in service or not.
func (b *Balancer) Ranks() int { return len(b.ranks) }

// Queued returns how many requests wait to be started by Step.
func (b *Balancer) Queued() int { return len(b.queue) - b.holes }
