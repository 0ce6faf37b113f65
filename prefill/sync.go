package prefill

import (
	"cmp"
	"math"
	"slices"

	"github.com/moelb/moelb/internal/ledger"
)

// Enter enters a request that is on a rank already: adopted, pinned by its client,
// or moved there by the engine. What it has Cached there, or CachedAt, counts as
// computed; its limits and the rank's count for nothing. It then stays until Done,
// as if Add had placed it. Errors: ErrValue, ErrKnown; ErrState for a dead rank, or
// more work than can be counted. O(1), and the values in CachedAt and Among.
func (b *Balancer) Enter(r Request, rank int) error {
	if err := b.checkValues(&r); err != nil {
		return err
	}
	if err := b.alive("rank", rank); err != nil {
		return err
	}
	if err := b.countable(&r); err != nil {
		return err
	}
	b.place(&r, rank, r.cachedOn(rank))
	return nil
}

// alive is an error where a rank does not exist or is dead.
func (b *Balancer) alive(field string, g int) error {
	err := b.exists(field, g)
	if err == nil && b.ranks[g].state == Dead {
		err = bad(ErrState, field, -1, "%d is dead: restore it first", g)
	}
	return err
}

// Move says that the engine has moved a request, with what is computed of it, to
// another rank, whatever the limits. Errors: ErrUnknown, ErrValue; ErrState for a
// request that is in the queue, or a dead rank. O(1), and the prompts that Step has
// started on the rank.
func (b *Balancer) Move(id ID, to int) error {
	s := b.ids.Find(uint64(id))
	if s < 0 {
		return unknown(id)
	}
	if err := b.alive("to", to); err != nil {
		return err
	}
	q := &b.requests[s]
	if q.state == queued {
		return bad(ErrState, "id", -1, "request %d is in the queue", id)
	}
	if int(q.rank) != to {
		b.leave(s)
		b.settleOn(s, to, q.pos, q.state)
		b.changed(to)
	}
	return nil
}

// Running is a request that an engine has on a rank: all its tokens, and how many
// of them are cached or computed.
type Running struct {
	ID               ID
	Tokens, Computed int64
}

// Changes is what Sync found to be different.
type Changes struct {
	Entered []ID // unknown before
	Gone    []ID // on the rank before, but not in its list
	Moved   []ID // on another rank before
}

// Sync takes over a rank's own list of what it has: its ledger is exactly this
// afterwards, whatever the limits. It appends to dst what was different. A request
// from the queue is taken as started there; one that was unknown, as added; what is
// gone is off the ledger as with Cancel. Errors: ErrValue, with the index in the
// list; ErrKnown for an id that is there twice; ErrState for a dead rank, or more
// work than can be counted. O(the list and what the rank had).
func (b *Balancer) Sync(dst Changes, rank int, running []Running) (Changes, error) {
	listed, err := b.checkList(rank, running)
	if err != nil {
		return dst, err
	}
	k := &b.ranks[rank]
	had := append(append(b.former.some[:0], k.started...), k.added...)
	b.former.some = had
	slices.SortFunc(had, func(x, y int32) int { return cmp.Compare(b.requests[x].seq, b.requests[y].seq) })
	for _, s := range had {
		if id := b.requests[s].id; listed.Find(uint64(id)) < 0 {
			dst.Gone = append(dst.Gone, id)
			b.leave(s)
			b.remove(s)
		}
	}
	for i := range running {
		x := &running[i]
		s := b.ids.Find(uint64(x.ID))
		if s < 0 {
			dst.Entered = append(dst.Entered, x.ID)
			b.place(&Request{ID: x.ID, Tokens: x.Tokens}, rank, x.Computed)
			continue
		}
		q := &b.requests[s]
		switch {
		case q.state == queued:
			b.settled(s)
			b.unfollow(s)
			b.leave(s)
			b.retell(s, x)
			b.settleOn(s, rank, x.Computed, started)
		case int(q.rank) != rank:
			dst.Moved = append(dst.Moved, x.ID)
			b.leave(s)
			b.retell(s, x)
			b.settleOn(s, rank, x.Computed, q.state)
		default:
			b.correct(s, x)
		}
		b.changed(rank)
	}
	return dst, nil
}

// checkList is what is wrong with a list of Sync, and the ids in it.
func (b *Balancer) checkList(rank int, running []Running) (listed ledger.Table, err error) {
	if err := b.alive("rank", rank); err != nil {
		return listed, err
	}
	sum := b.bound
	for i := range running {
		switch x := &running[i]; {
		case x.Tokens < 1 || x.Tokens > MaxPrompt:
			return listed, bad(ErrValue, "tokens", i, "%d: from 1 to %d are needed", x.Tokens, int64(MaxPrompt))
		case x.Computed < 0 || x.Computed > x.Tokens:
			return listed, bad(ErrValue, "computed", i, "%d of %d tokens", x.Computed, x.Tokens)
		case listed.Find(uint64(x.ID)) >= 0:
			return listed, bad(ErrKnown, "id", i, "request %d is there twice", x.ID)
		default:
			listed.Add(uint64(x.ID), int32(i))
			if sum = sum.plus(WorkOf(x.Tokens, 0)); sum.Pairs > math.MaxInt64/4 || sum.Pairs < 0 {
				return listed, bad(ErrState, "tokens", i, "%d beside requests of %d: more work than can be counted", x.Tokens, b.bound.Tokens)
			}
		}
	}
	return listed, nil
}

// retell changes the length of a request that is nowhere.
func (b *Balancer) retell(s int32, x *Running) {
	q := &b.requests[s]
	b.total = b.total.less(q.work())
	b.bound = b.bound.less(WorkOf(q.tokens, 0)).plus(WorkOf(x.Tokens, 0))
	q.tokens = x.Tokens
	q.pos, q.cached, q.shared = min(q.pos, q.tokens), min(q.cached, q.tokens), min(q.shared, q.tokens)
	q.from = min(q.from, q.pos)
	if q.where.Local {
		for g := range q.where.CachedAt {
			q.where.CachedAt[g] = min(q.where.CachedAt[g], q.tokens)
		}
	}
	b.total = b.total.plus(q.work())
}

// correct changes what is known of a request where it is.
func (b *Balancer) correct(s int32, x *Running) {
	q := &b.requests[s]
	k := &b.ranks[q.rank]
	k.work, k.kv = k.work.less(q.work()), k.kv-q.tokens
	if q.state == started {
		k.startedKV += x.Tokens - q.tokens
	}
	b.retell(s, x)
	b.total = b.total.less(q.work())
	q.pos = x.Computed
	b.total = b.total.plus(q.work())
	k.work, k.kv = k.work.plus(q.work()), k.kv+q.tokens
}
