package decode

import (
	"slices"

	"github.com/moelb/moelb/decode/internal/levels"
)

// Move brings a running request's KV cache to another rank.
type Move struct {
	ID       ID
	From, To int
	KV       int64   // tokens to bring over
	Seconds  float64 // that takes over Config.Link, while the request waits
	Gain     float64 // seconds a step, of the cost of KV use and requests beyond the mean
}

// Rebalance moves up to most running requests off the ranks of most KV use, one
// by one, each where that gains most, and appends the moves to dst; they are
// already applied. A move must gain more over the request's expected life than
// the unit loses while that one request waits. Placement alone keeps a unit even
// where prompts are long and outputs short; moves are for long outputs, whose
// growth no placement foresees, a few a second. Ranks that hold more than their
// capacity are relieved first, whatever that costs; see Overfull for those that
// moves can't relieve. Errors: ErrValue.
func (b *Balancer) Rebalance(dst []Move, most int) ([]Move, error) {
	if most < 0 {
		return dst, errorf(ErrValue, "max_moves", -1, "%d is negative", most)
	}
	first := len(dst)
	dst = b.relieve(dst, most)
	for range most - (len(dst) - first) {
		m, i, ok := b.bestMove()
		if !ok {
			break
		}
		b.move(i, m.To)
		dst = append(dst, m)
	}
	return dst, nil
}

// bestMove returns the move off the serving rank of most KV use that gains most.
func (b *Balancer) bestMove() (best Move, index int32, ok bool) {
	if b.active < 2 || b.unlike || b.sumWidth <= 0 {
		return best, 0, false
	}
	most, _ := b.peak()
	l := b.level(&balanced, 0, 0, 0)
	l.most = 0 // a move pays for what it brings
	from := b.fullest(most)
	k := &b.ranks[from]
	n := float64(b.sumWidth)
	value := 0.0
	for _, i := range k.members {
		q := &b.requests[i]
		if q.waiting || q.prefix >= 0 {
			continue
		}
		kv, width := q.kv(b.clock), int64(q.width)
		left := b.left(q)
		seconds := float64(kv) / b.cfg.Link
		off := l.overKV(most) - l.overKV(most-kv) + l.overCount(k.width) - l.overCount(k.width-width)
		r := Request{KV: kv, Output: min(left, MaxTokens), Width: int(width)}
		for _, set := range [...]*levels.Levels{b.mine, b.others} {
			if set == nil {
				continue
			}
			for j, w := range set.Widths {
				if w+width > l.requests {
					break
				}
				root := set.Roots[j]
				least := set.Least(root)
				at := least + w*b.clock
				if at+kv >= most || at+kv > b.ranks[0].capacity {
					continue
				}
				gain := off + l.overKV(at) - l.overKV(at+kv) + l.overCount(w) - l.overCount(w+width)
				net := float64(gain*float64(left)/float64(width)) - seconds/n
				if net <= value || gain <= 1e-9 {
					continue
				}
				to := int(set.Most(root, least))
				if to == from || !b.may(i, to) || !b.fits(to, &r, kv) {
					continue
				}
				value, index, ok = net, i, true
				best = Move{q.id, from, to, kv, seconds, gain}
			}
		}
	}
	return best, index, ok
}

// fullest returns the lowest serving rank that holds so many tokens.
func (b *Balancer) fullest(kv int64) int {
	g := 0
	for !b.ranks[g].open() || b.kv(g) != kv {
		g++
	}
	return g
}

// left is how many tokens a request is expected to generate still.
func (b *Balancer) left(q *request) int64 {
	generated := q.generated(b.clock)
	if left := q.output - generated; q.told && left > 0 && b.believed(left, generated) > 0 {
		return left
	}
	return b.expected(generated)
}

// may reports whether a request may be on a rank.
func (b *Balancer) may(i int32, g int) bool {
	among, ok := b.among[i]
	return !ok || slices.Contains(among, g)
}
