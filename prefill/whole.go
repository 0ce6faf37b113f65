package prefill

import "slices"

// carryAll lets started requests go on in a calm step.
func (b *Balancer) carryAll() {
	f := &b.former
	for g := range b.ranks {
		l := &f.load[g]
		for i, s := range b.ranks[g].started {
			q := &b.requests[s]
			most := min(q.left(), f.tokens-l.tokens)
			n := b.within(q.pos, f.pairs-l.pairs, most)
			if i == 0 {
				n = max(n, min(leastChunk, most))
			}
			if i == 0 || n > 0 && n >= min(leastChunk/4, q.left()) {
				b.put(s, g, n, q.pos, false)
			}
		}
	}
}

// rankOf orders the queue of a calm step: those who were passed over before, then
// those whom an idle rank could compute whole, then the others.
func (b *Balancer) rankOf(q *request) int {
	f := &b.former
	switch {
	case q.passed:
		return 0
	case q.left() <= f.tokens && b.pairsOf(q.left(), q.pos) <= f.pairs:
		return 1
	}
	return 2
}

// placeWhole puts the ready requests on the ranks, in order of rankOf and then the
// largest first, each where the step grows least: whole if the step's tokens and pairs allow it,
// cut otherwise. One that was passed over before takes a chunk even beyond the pairs.
func (b *Balancer) placeWhole() {
	f := &b.former
	f.order = f.order[:0]
	for _, s := range f.ready {
		if !b.requests[s].taken {
			f.order = append(f.order, s)
		}
	}
	slices.SortFunc(f.order, func(x, y int32) int {
		p, q := &b.requests[x], &b.requests[y]
		u, v := b.cost.of(p.work()), b.cost.of(q.work())
		if w := b.rankOf(p) - b.rankOf(q); w != 0 {
			return w
		}
		switch {
		case u > v:
			return -1
		case u < v:
			return 1
		}
		return order(p.seq, q.seq, 0, 0)
	})
	most := f.most()
	for _, s := range f.order {
		q := &b.requests[s]
		best, bestN, bestScore, bestTie := -1, int64(0), 0.0, 0.0
		for i := range f.load {
			g := b.turned(i)
			l := &f.load[g]
			pos := q.at(g)
			need := q.tokens - pos
			left := f.tokens - l.tokens
			if left <= 0 && need > 0 || !b.takes(g, q) {
				continue
			}
			n := b.within(pos, f.pairs-l.pairs, min(need, left))
			if enough := min(leastChunk, need, left); n < enough {
				if len(l.pieces) > 0 && !q.passed {
					continue
				}
				n = enough
			}
			w := Work{l.tokens + n, l.pairs + b.pairsOf(n, pos)}
			score := b.cost.of(Work{max(w.Tokens, most.Tokens), max(w.Pairs, most.Pairs)})
			if n < need {
				// the rest comes later, behind what the rank has to do
				score += 2*b.cost.of(WorkOf(need-n, pos+n)) + float64(b.cost.Pair*float64(l.stock))
			}
			tie := b.cost.of(w)
			if best < 0 || score < bestScore || score == bestScore && tie < bestTie {
				best, bestN, bestScore, bestTie = g, n, score, tie
			}
		}
		if best >= 0 {
			b.put(s, best, bestN, q.at(best), true)
			most.Tokens, most.Pairs = max(most.Tokens, f.load[best].tokens), max(most.Pairs, f.load[best].pairs)
		}
		q.passed = best < 0
	}
}
