package decode

import "slices"

// State is that of a rank. Every state can be left: Restore brings any rank back.
type State uint8

const (
	Gone     State = iota // there is no such rank
	Serving               // it takes new requests
	Draining              // it keeps what it runs, and gets nothing more
	Dead                  // gone with all it held
)

// String is the state in a word.
func (s State) String() string {
	return [...]string{"gone", "serving", "draining", "dead"}[min(s, Dead)]
}

// exists is an error where there is no such rank.
func (b *Balancer) exists(field string, rank int) error {
	if rank < 0 || rank >= len(b.ranks) {
		return errorf(ErrValue, field, -1, "%d is not from 0 to %d", rank, len(b.ranks)-1)
	}
	return nil
}

// alive is an error where there is no such rank, or it is dead.
func (b *Balancer) alive(field string, rank int) error {
	err := b.exists(field, rank)
	if err == nil && b.ranks[rank].state == Dead {
		err = errorf(ErrState, field, -1, "%d is dead: restore it first", rank)
	}
	return err
}

// Drain places nothing more on a rank; what it runs stays until it is done.
// Errors: ErrValue; ErrState where the rank is dead.
func (b *Balancer) Drain(rank int) error {
	if err := b.alive("rank", rank); err != nil {
		return err
	}
	b.turnTo(rank, Draining)
	return nil
}

// Restore brings a rank back that was drained or dead. Errors: ErrValue.
func (b *Balancer) Restore(rank int) error {
	if err := b.exists("rank", rank); err != nil {
		return err
	}
	b.turnTo(rank, Serving)
	b.room()
	return nil
}

// turnTo changes a rank's state.
func (b *Balancer) turnTo(rank int, s State) {
	k := &b.ranks[rank]
	if k.open() {
		b.leave(rank)
	}
	k.state = s
	if k.open() {
		b.enter(rank)
	}
}

// Lost is a request as it was when its rank died, no longer known: add it again
// once its KV cache has been made anew. Its Output is what is still expected.
type Lost = Request

// Dead takes a rank out of service and appends what was there to dst, in the
// order in which it holds it. O(requests of the rank). Errors: ErrValue.
func (b *Balancer) Dead(dst []Lost, g int) ([]Lost, error) {
	if err := b.exists("rank", g); err != nil {
		return dst, err
	}
	b.turnTo(g, Dead)
	k := &b.ranks[g]
	for _, i := range k.members {
		dst = append(dst, b.lost(i))
		b.learn(&b.requests[i], false)
	}
	for n := len(k.members); n > 0; n-- {
		i := k.members[n-1]
		b.part(i, false)
		b.forget(i)
	}
	*k = rank{state: Dead, capacity: k.capacity, speed: k.speed, members: k.members[:0], forecast: k.forecast}
	k.changed()
	b.base[g] = 0
	return dst, nil
}

// lost is a request as it is now.
func (b *Balancer) lost(i int32) Lost {
	q := &b.requests[i]
	r := Request{ID: q.id, KV: q.kv(b.clock), Generated: q.generated(b.clock), Width: int(q.width), Shared: q.shared, Waiting: q.waiting, Among: slices.Clone(b.among[i])}
	if q.told {
		r.Output = max(q.output-r.Generated, leastOut)
	}
	if q.prefix >= 0 {
		r.Prefix = b.prefixes.slots[q.prefix].id
	}
	return r
}

// Resize changes the number of ranks. New ones are empty and serve, with the
// capacity and the speed of the last one; those taken away must be empty. O(ranks).
// Errors: ErrValue; ErrState where one of them is not empty, or New made none.
func (b *Balancer) Resize(ranks int) error {
	cfg := b.cfg
	cfg.Ranks = ranks
	if err := cfg.check(); err != nil {
		return err
	}
	if len(b.ranks) == 0 {
		return errorf(ErrState, "ranks", -1, "New makes the first")
	}
	for g := ranks; g < len(b.ranks); g++ {
		if n := len(b.ranks[g].members); n > 0 {
			return errorf(ErrState, "ranks", -1, "rank %d, which would vanish, holds %d requests", g, n)
		}
	}
	b.cfg.Ranks, b.turn = ranks, min(b.turn, ranks)
	last := b.ranks[len(b.ranks)-1]
	n := min(ranks, len(b.ranks))
	b.ranks = append(make([]rank, 0, ranks), b.ranks[:n]...)
	b.base = append(make([]int64, 0, ranks), b.base[:n]...)
	for len(b.ranks) < ranks {
		b.ranks = append(b.ranks, rank{state: Serving, capacity: last.capacity, speed: last.speed})
		b.base = append(b.base, 0)
	}
	b.index()
	return nil
}

// Move says that the engine brought a request to another rank, or undid a move:
// it is there whatever the limits. Errors: ErrUnknown, ErrValue; ErrState where
// the rank is dead.
func (b *Balancer) Move(id ID, to int) error {
	i, err := b.find(id)
	if err == nil {
		err = b.alive("to", to)
	}
	if err == nil && int(b.requests[i].rank) != to {
		b.move(i, to)
	}
	return err
}

// Changes are what Sync found to be otherwise than the ledger had it.
type Changes struct {
	Entered []ID // were not known
	Gone    []ID // were thought to be on the rank
	Moved   []ID // were thought to be on another rank
}

// Sync takes over what the engine itself says is on a rank: the rank's ledger is exactly
// this afterwards. Of a request that is known, KV and Waiting are taken over, and Width
// where it is given; what is not known is entered as by Enter, and teaches nothing of
// outputs unless it says what it has Generated; what is not listed is gone, as by
// Cancel. It appends what was otherwise to the lists of dst. O(requests of the rank and
// listed). Errors, which name the index: ErrValue; ErrKnown for an id that stands there
// twice; ErrState where the rank is dead.
func (b *Balancer) Sync(dst Changes, rank int, running []Request) (Changes, error) {
	if err := b.alive("rank", rank); err != nil {
		return dst, err
	}
	listed := make(map[ID]bool, len(running))
	for n, r := range running {
		if listed[r.ID] {
			return dst, errorf(ErrKnown, "requests", n, "id %d stands there twice", uint64(r.ID))
		}
		listed[r.ID] = true
		if b.ids.Find(uint64(r.ID)) >= 0 {
			r = Request{KV: r.KV, Width: r.Width}
		}
		if _, err := b.values(r, n); err != nil {
			return dst, err
		}
	}
	for n := len(b.ranks[rank].members); n > 0; n-- {
		i := b.ranks[rank].members[n-1]
		if q := &b.requests[i]; !listed[q.id] {
			dst.Gone = append(dst.Gone, q.id)
			b.learn(q, false)
			b.release(i)
		}
	}
	for _, r := range running {
		i := b.ids.Find(uint64(r.ID))
		if i < 0 {
			dst.Entered = append(dst.Entered, r.ID)
			r, _ = b.values(r, -1)
			i := b.put(rank, &r)
			b.requests[i].vague = r.Generated == 0
			b.imagine(i, 0, 0)
			continue
		}
		q := &b.requests[i]
		stays := int(q.rank) == rank && q.placed > 0 // for a rank that counts, it neither comes nor goes
		if int(q.rank) != rank {
			dst.Moved = append(dst.Moved, r.ID)
		}
		placed := q.placed
		b.part(i, stays || b.finished(q))
		b.model.drop(q, b.clock)
		if r.Width > 0 {
			q.width = int32(r.Width)
		}
		q.waiting, q.shared, q.base, q.start = r.Waiting, min(q.shared, r.KV), r.KV, min(q.start, r.KV)
		if q.waiting {
			q.model = modelRanks{}
		} else {
			q.base -= int64(q.width) * b.clock
		}
		b.model.add(q, b.clock)
		if b.join(i, rank); stays {
			q.placed = placed
			b.ranks[rank].reported.placed--
		}
	}
	b.trust(rank)
	return dst, nil
}
