package prefill

import (
	"math"
	"slices"
)

// cut returns how much of a dense prompt at pos rank g takes, at most most, so
// that light prompts still have the pairs to fill the rest of its tokens.
func (b *Balancer) cut(g int, most, pos int64) int64 {
	f := &b.former
	l := &f.load[g]
	room := f.tokens - l.tokens
	most = min(most, room)
	pairs := f.pairs - l.pairs - b.expand*pos
	if most <= 0 || pairs <= 0 {
		return 0
	}
	// Of the tokens left beside n, light prompts fill a share at a mean density:
	// n*pos + n(n+1)/2 + density*min(share, room-n) <= pairs.
	density := float64(f.light.Pairs) / float64(max(f.light.Tokens, 1))
	share := min(room, f.light.Tokens/int64(max(b.live, 1)))
	few := min(most, room-share)
	if n := longest(pos, pairs-whole(float64(density*float64(share))), few); n < few {
		return n
	}
	h := float64(pos) + .5 - density
	rest := float64(pairs) - float64(density*float64(room))
	n := int64(0)
	if d := float64(h*h) + 2*rest; d >= 0 {
		n = whole(max(0, math.Sqrt(d)-h))
	}
	return max(few, min(n, most))
}

// carryFull lets started requests go on in a full step. The oldest of a rank comes
// first and always advances; then dense ones, each leaving room for light ones,
// then what remains of light ones.
func (b *Balancer) carryFull() {
	f := &b.former
	for g := range b.ranks {
		l := &f.load[g]
		for pass := range 2 {
			for i, s := range b.ranks[g].started {
				q := &b.requests[s]
				dense := b.isDense(q)
				if first := i == 0 || dense; first != (pass == 0) {
					continue
				}
				most := min(q.left(), f.tokens-l.tokens)
				n := int64(0)
				if dense {
					n = b.cut(g, most, q.pos)
				} else {
					n = b.within(q.pos, f.pairs-l.pairs, most)
				}
				if i == 0 {
					n = max(n, min(leastChunk, most))
				}
				if i == 0 || n > 0 && n >= min(leastChunk/4, q.left()) {
					b.put(s, g, n, q.pos, false)
				}
			}
		}
	}
}

// startDense starts dense prompts of the queue: those whose turn it is nearly,
// and longer ones while there is still time to even them out.
func (b *Balancer) startDense() {
	f := &b.former
	least := int64(math.MaxInt64)
	for g := range f.load {
		if b.ranks[g].open {
			least = min(least, f.load[g].stock)
		}
	}
	live := float64(max(b.live, 1))
	late := lateShare*float64(f.all.Pairs)/live - float64(least)
	reach := ahead * float64(f.tokens) * live
	f.order, f.urgent = f.order[:0], f.urgent[:0]
	seen := 0.0
	for _, s := range f.ready {
		q := &b.requests[s]
		seen += float64(q.left())
		if q.taken || !b.isDense(q) {
			continue
		}
		pairs := q.work().Pairs
		switch {
		case float64(pairs) > late:
			f.order, f.urgent = append(f.order, s), append(f.urgent, pairs)
		case seen <= reach:
			f.order, f.urgent = append(f.order, s), append(f.urgent, 0)
		}
	}
	b.sortUrgent()
	for i, s := range f.order {
		q := &b.requests[s]
		best, bestN := -1, int64(0)
		for j := range f.load {
			g := b.turned(j)
			l := &f.load[g]
			if l.tokens >= f.tokens || !b.takes(g, q) || best >= 0 && l.stock >= f.load[best].stock {
				continue
			}
			if f.urgent[i] == 0 && float64(l.stock) >= stockSteps*float64(f.pairs) {
				continue
			}
			pos := q.at(g)
			n := b.cut(g, q.tokens-pos, pos)
			if enough := min(leastChunk, q.tokens-pos, f.tokens); n < enough {
				if len(l.pieces) > 0 {
					continue
				}
				n = enough
			}
			best, bestN = g, n
		}
		if best >= 0 {
			b.put(s, best, bestN, q.at(best), true)
		}
	}
}

// sortUrgent sorts the order: the most urgent first, then the oldest.
func (b *Balancer) sortUrgent() {
	f := &b.former
	for i, s := range f.order {
		b.requests[s].urgent = f.urgent[i]
	}
	slices.SortFunc(f.order, func(x, y int32) int {
		p, q := &b.requests[x], &b.requests[y]
		return order(q.urgent, p.urgent, p.seq, q.seq)
	})
	for i, s := range f.order {
		f.urgent[i] = b.requests[s].urgent
	}
}
