package decode

// known reports whether a rank exists.
func (b *Balancer) known(rank int) error {
	if rank < 0 || rank >= len(b.ranks) {
		return errorf(ErrUnknown, "rank", -1, "%d is not from 0 to %d", rank, len(b.ranks)-1)
	}
	return nil
}

// Drain places nothing more on a rank; what it runs stays until it is done.
// Errors: ErrUnknown; ErrState where the rank is dead.
func (b *Balancer) Drain(rank int) error {
	if err := b.known(rank); err != nil {
		return err
	}
	switch b.ranks[rank].state {
	case dead:
		return errorf(ErrState, "rank", -1, "%d is dead", rank)
	case serving:
		b.leave(rank)
		b.ranks[rank].state = draining
	}
	return nil
}

// Restore brings a rank back that was drained or dead. Errors: ErrUnknown.
func (b *Balancer) Restore(rank int) error {
	if err := b.known(rank); err != nil {
		return err
	}
	if k := &b.ranks[rank]; k.state != serving {
		k.state = serving
		b.enter(rank)
		b.room()
	}
	return nil
}

// Lost is a request whose rank died: place it again, once its KV cache has been
// made anew.
type Lost struct {
	ID      ID // as it was; no longer running
	Request Request
}

// Dead takes a rank out of service and appends what ran there to dst, in the
// order in which it holds it. Errors: ErrUnknown.
func (b *Balancer) Dead(dst []Lost, g int) ([]Lost, error) {
	if err := b.known(g); err != nil {
		return dst, err
	}
	k := &b.ranks[g]
	if k.state == serving {
		b.leave(g)
	}
	k.state = dead
	for _, i := range k.members {
		q := &b.requests[i]
		kv := q.kv(b.clock)
		r := Request{KV: int(kv), Width: int(q.width)}
		if q.told {
			r.Output = int(max(q.output-(kv-q.start), leastOut))
		}
		dst = append(dst, Lost{q.id(i), r})
		q.rank = -1
		b.free = append(b.free, i)
	}
	*k = rank{state: dead, members: k.members[:0]}
	b.base[g] = 0
	return dst, nil
}

// Resize changes the number of ranks. New ones are empty and serve; those taken
// away must be empty. Errors: ErrValue; ErrState where one of them is not.
func (b *Balancer) Resize(ranks int) error {
	cfg := b.cfg
	cfg.Ranks = ranks
	if err := cfg.check(); err != nil {
		return err
	}
	for g := ranks; g < len(b.ranks); g++ {
		if n := len(b.ranks[g].members); n > 0 {
			return errorf(ErrState, "ranks", -1, "rank %d runs %d requests", g, n)
		}
	}
	b.size(ranks)
	return nil
}
