package prefill

import "slices"

// mover is what settle works with.
type mover struct {
	free   []int32 // pieces that may move, the largest first
	best   []int32 // their ranks in the best placement found
	now    []int32
	need   float64 // seconds of the best placement
	budget int
}

// settle improves the placement of the prompts that a calm step starts whole:
// few of them by branch and bound, more by moves and swaps that shorten the step.
func (b *Balancer) settle() {
	f := &b.former
	m := &f.moved
	m.free = m.free[:0]
	for i := range f.pieces {
		p := &f.pieces[i]
		if q := &b.requests[p.slot]; p.fresh && !q.local && p.pos+p.n == q.tokens && p.n > 0 {
			m.free = append(m.free, int32(i))
		}
	}
	if len(m.free) < 2 {
		return
	}
	slices.SortStableFunc(m.free, func(x, y int32) int {
		u, v := b.seconds(&f.pieces[x]), b.seconds(&f.pieces[y])
		switch {
		case u > v:
			return -1
		case u < v:
			return 1
		}
		return 0
	})
	if len(m.free) <= 12 {
		b.branch()
	} else {
		b.descend()
	}
	for g := range f.load {
		f.load[g].pieces = f.load[g].pieces[:0]
	}
	for i := range f.pieces {
		l := &f.load[f.pieces[i].rank]
		l.pieces = append(l.pieces, int32(i))
	}
}

func (b *Balancer) seconds(p *piece) float64 {
	return b.cost.of(Work{p.n, b.pairsOf(p.n, p.pos)})
}

// move takes a piece to a rank, but for the ranks' lists.
func (b *Balancer) move(p *piece, g int32) {
	f := &b.former
	q := &b.requests[p.slot]
	pairs, stock := b.pairsOf(p.n, p.pos), pairsOf(p.n, p.pos)
	for _, x := range [2]struct {
		rank int32
		sign int64
	}{{p.rank, -1}, {g, 1}} {
		l := &f.load[x.rank]
		l.tokens += x.sign * p.n
		l.pairs += x.sign * pairs
		l.stock += x.sign * stock
		l.kv += x.sign * q.tokens
	}
	p.rank = g
}

// fits reports whether a rank that has what l says, less one piece if given, can
// take p.
func (b *Balancer) fits(g int, p, less *piece) bool {
	f := &b.former
	l := &f.load[g]
	q := &b.requests[p.slot]
	tokens, pairs, kv := l.tokens+p.n, l.pairs+b.pairsOf(p.n, p.pos), l.kv+q.tokens
	if less != nil {
		tokens -= less.n
		pairs -= b.pairsOf(less.n, less.pos)
		kv -= b.requests[less.slot].tokens
	}
	return b.able(g, q) && !l.closed && tokens <= f.tokens && (pairs <= f.pairs || pairs <= l.pairs) && kv <= b.ranks[g].room()
}

// branch searches all placements of the free pieces, within a bound on their
// number.
func (b *Balancer) branch() {
	f := &b.former
	m := &f.moved
	m.best, m.now = m.best[:0], m.now[:0]
	for _, i := range m.free {
		m.best = append(m.best, f.pieces[i].rank)
	}
	m.need = b.cost.of(f.most())
	m.budget = 20000
	for _, i := range m.free {
		b.lift(&f.pieces[i], -1)
	}
	b.search(0, f.most())
	for k, i := range m.free {
		p := &f.pieces[i]
		p.rank = m.best[k]
		b.lift(p, 1)
	}
}

// lift takes a piece off its rank's load (-1) or puts it back (1).
func (b *Balancer) lift(p *piece, sign int64) {
	l := &b.former.load[p.rank]
	l.tokens += sign * p.n
	l.pairs += sign * b.pairsOf(p.n, p.pos)
	l.stock += sign * pairsOf(p.n, p.pos)
	l.kv += sign * b.requests[p.slot].tokens
}

// search places the free pieces from the k-th on; most is what the ranks have at
// most. Of ranks that are alike only the first is tried.
func (b *Balancer) search(k int, most Work) {
	f := &b.former
	m := &f.moved
	if k == len(m.free) {
		if s := b.cost.of(most); s < m.need {
			m.need = s
			m.best = append(m.best[:0], m.now...)
		}
		return
	}
	p := &f.pieces[m.free[k]]
	for g := range f.load {
		if m.budget == 0 {
			return
		}
		if !b.fits(g, p, nil) || b.seenBefore(g) {
			continue
		}
		m.budget--
		l := &f.load[g]
		then := Work{max(most.Tokens, l.tokens+p.n), max(most.Pairs, l.pairs+b.pairsOf(p.n, p.pos))}
		if b.cost.of(then) >= m.need {
			continue
		}
		p.rank = int32(g)
		b.lift(p, 1)
		m.now = append(m.now, p.rank)
		b.search(k+1, then)
		m.now = m.now[:len(m.now)-1]
		p.rank = int32(g)
		b.lift(p, -1)
	}
}

// seenBefore reports whether an earlier rank has the same as g.
func (b *Balancer) seenBefore(g int) bool {
	f := &b.former
	if f.pinned {
		return false
	}
	l := &f.load[g]
	for h := range g {
		k := &f.load[h]
		if k.tokens == l.tokens && k.pairs == l.pairs && k.kv == l.kv && k.closed == l.closed && b.ranks[h].open == b.ranks[g].open && b.ranks[h].maxKV == b.ranks[g].maxKV {
			return true
		}
	}
	return false
}

// descend moves a piece off a rank that sets the pace, or swaps it, as long as
// that shortens the step.
func (b *Balancer) descend() {
	f := &b.former
	for range 64 {
		if !b.improve(f.most()) {
			return
		}
	}
}

// improve makes the first move or swap that shortens the step, or lets fewer
// ranks set its pace.
func (b *Balancer) improve(most Work) bool {
	f := &b.former
	free := f.moved.free
	for i, x := range free {
		p := &f.pieces[x]
		if l := &f.load[p.rank]; l.tokens < most.Tokens && l.pairs < most.Pairs {
			continue
		}
		for g := range f.load {
			if int32(g) != p.rank && b.fits(g, p, nil) && b.helps(p, nil, g) {
				b.move(p, int32(g))
				return true
			}
		}
		for j, y := range free {
			q := &f.pieces[y]
			if i != j && p.rank != q.rank && b.fits(int(q.rank), p, q) && b.fits(int(p.rank), q, p) && b.helps(p, q, int(q.rank)) {
				g, h := p.rank, q.rank
				b.move(p, h)
				b.move(q, g)
				return true
			}
		}
	}
	return false
}

// helps reports whether moving p to rank g, and q back if given, lessens what the
// two ranks ask of the step at most, in tokens, in pairs and in seconds.
func (b *Balancer) helps(p, q *piece, g int) bool {
	f := &b.former
	from, to := &f.load[p.rank], &f.load[g]
	w := Work{p.n, b.pairsOf(p.n, p.pos)}
	if q != nil {
		w = w.less(Work{q.n, b.pairsOf(q.n, q.pos)})
	}
	worst := func(a, b Work) Work { return Work{max(a.Tokens, b.Tokens), max(a.Pairs, b.Pairs)} }
	a, c := Work{from.tokens, from.pairs}, Work{to.tokens, to.pairs}
	before, after := b.cost.of(worst(a, c)), b.cost.of(worst(a.less(w), c.plus(w)))
	return after < before-1e-9*before
}
