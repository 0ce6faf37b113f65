package prefill

import "slices"

// fill fills the tokens of a full step with light prompts: the oldest that cover
// them, the longest of these first, then more.
func (b *Balancer) fill() {
	f := &b.former
	room := int64(0)
	for g := range f.load {
		if b.ranks[g].open {
			room += max(0, f.tokens-f.load[g].tokens)
		}
	}
	cover := b.candidates(room)
	over := f.pairs
	if b.cost.Pair > 0 {
		over += whole(spare * b.cost.of(Work{f.tokens, f.pairs}) / b.cost.Pair)
	}
	for _, s := range f.order {
		if room <= 0 {
			break
		}
		q := &b.requests[s]
		best, bestN, bestScore := -1, int64(0), 0.0
		for i := range f.load {
			g := b.turned(i)
			if f.load[g].tokens >= f.tokens || !b.takes(g, q) || b.keepsAway(q, g) {
				continue
			}
			if n, score := b.fit(q, g, over); n >= 0 && (best < 0 || score < bestScore) {
				best, bestN, bestScore = g, n, score
			}
		}
		if best >= 0 {
			b.put(s, best, bestN, q.at(best), true)
			room -= bestN
		}
	}
	for _, s := range f.order[:cover] {
		q := &b.requests[s]
		q.passed = q.passed || !q.taken
	}
}

// candidates puts light prompts of about three times room's tokens in order and
// returns how many of them are to cover it. Prompts with a prefix in some rank's
// cache go before others: it will be evicted.
func (b *Balancer) candidates(room int64) (cover int) {
	f := &b.former
	f.order = f.order[:0]
	tokens := int64(0)
	for _, cached := range [2]bool{true, false} {
		for _, s := range f.ready {
			q := &b.requests[s]
			if q.taken || b.isDense(q) || cached != (q.local && float64(q.pos) > .3*float64(q.tokens)) {
				continue
			}
			if tokens < room {
				cover++
			} else if tokens/3 > room {
				break
			}
			tokens += q.left()
			f.order = append(f.order, s)
		}
	}
	slices.SortFunc(f.order[:cover], func(x, y int32) int {
		p, q := &b.requests[x], &b.requests[y]
		if p.passed != q.passed {
			if p.passed {
				return -1
			}
			return 1
		}
		return order(q.left(), p.left(), p.seq, q.seq)
	})
	return cover
}

// keepsAway reports whether a request had rather wait for the rank that caches
// its prefix than compute half as much again on g.
func (b *Balancer) keepsAway(q *request, g int) bool {
	return q.local && q.due > b.clock && 2*(q.pos-q.at(g)) > q.left()
}

// fit returns how much of a light prompt rank g takes, -1 = too little, and how
// ill that suits it: lower is better. Pairs beyond over are not taken.
func (b *Balancer) fit(q *request, g int, over int64) (int64, float64) {
	f := &b.former
	l := &f.load[g]
	pos := q.at(g)
	need := q.tokens - pos
	left := f.tokens - l.tokens
	n := b.within(pos, over-l.pairs, min(need, left))
	if enough := min(leastChunk, need, f.tokens); n < enough || need == 0 {
		if len(l.pieces) > 0 && need > 0 {
			return -1, 0
		}
		n = min(enough, left)
	}
	tokens, pairs := float64(f.tokens), float64(max(f.pairs, 1))
	after := l.pairs + b.pairsOf(n, pos)
	// the emptiest first; pairs even, and dear beyond the target; whole, or else on a
	// rank with little stock; where the prefix is
	score := float64(.3*float64(after))/pairs - float64(left)/tokens
	score += float64(20*float64(max(0, after-f.pairs))) / pairs
	score += float64(need-n) / tokens
	if n < need {
		score += float64(.1*float64(l.stock+pairsOf(need-n, pos+n))) / pairs
	}
	if q.local {
		score += float64(need-q.left()) / tokens
	}
	return n, score
}

// trade makes up for pairs that a rank lacks though its tokens are used: it moves
// tokens from the chunks of prompts that are just starting to a denser one.
func (b *Balancer) trade() {
	f := &b.former
	for g := range f.load {
		l := &f.load[g]
		for range 8 {
			up, down := b.pair(l)
			if down < 0 || l.pairs >= f.pairs {
				break
			}
			u, d := &f.pieces[up], &f.pieces[down]
			gain := func(m int64) int64 { return pairsOf(m, u.pos+u.n) - pairsOf(m, d.pos+d.n-m) }
			lo, hi := int64(0), min(d.n, b.requests[u.slot].tokens-u.pos-u.n)
			for lo < hi {
				if m := (lo + hi + 1) / 2; l.pairs+gain(m) <= f.pairs {
					lo = m
				} else {
					hi = m - 1
				}
			}
			if lo == 0 {
				break
			}
			l.pairs += gain(lo)
			u.n += lo
			d.n -= lo
			if d.n == 0 {
				l.pairs -= b.expand * d.pos
			}
		}
	}
}

// pair picks the chunks of a rank between which tokens move: up to the densest
// that can grow, from a less dense one of a prompt that starts in this step, one
// that is cut already if there is one, else the shortest; -1 = none.
func (b *Balancer) pair(l *load) (up, down int32) {
	f := &b.former
	up, down = -1, -1
	for _, i := range l.pieces {
		p := &f.pieces[i]
		if p.pos+p.n < b.requests[p.slot].tokens && (up < 0 || p.pos+p.n > f.pieces[up].pos+f.pieces[up].n) {
			up = i
		}
	}
	if up < 0 {
		return -1, -1
	}
	end := f.pieces[up].pos + f.pieces[up].n
	cut := func(p *piece) bool { return p.pos+p.n < b.requests[p.slot].tokens }
	for _, i := range l.pieces {
		p := &f.pieces[i]
		if i == up || !p.fresh || p.n == 0 || p.pos+p.n >= end || b.requests[p.slot].due <= b.clock && l.pieces[0] == i {
			continue
		}
		if down >= 0 {
			d := &f.pieces[down]
			if c := cut(p); c != cut(d) && !c || c == cut(d) && p.n >= d.n {
				continue
			}
		}
		down = i
	}
	return up, down
}
