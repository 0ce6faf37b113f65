package decode

import "slices"

// placeAmong is place for what the sets of like ranks do not tell: ranks that
// differ in capacity or speed, a request that may not be on every rank, or that
// shares a prefix with what a rank holds. O(ranks).
func (b *Balancer) placeAmong(l *level, q *Request) int {
	if q.Shared > 0 {
		if g := b.join1(l, q); g >= 0 {
			return g
		}
	}
	c := b.choice()
	if b.offerAll(&c, l, q, true); b.others != nil && (c.rank < 0 || l.alone) {
		b.offerAll(&c, l, q, false)
	}
	return c.rank
}

// offerAll offers the ranks that may take a request, of the own share or of the
// others'.
func (b *Balancer) offerAll(c *choice, l *level, q *Request, own bool) {
	if q.Among != nil {
		for _, g := range q.Among {
			if b.own(g) == own {
				b.offer(c, l, q, g)
			}
		}
		return
	}
	for g := range b.ranks {
		if b.own(g) == own {
			b.offer(c, l, q, g)
		}
	}
}

// offer offers one rank, if the request is expected to finish there.
func (b *Balancer) offer(c *choice, l *level, q *Request, g int) {
	if next := b.better(*c, l, q, g); next.rank != c.rank && b.fits(g, q, q.KV-b.there(q, g)) {
		*c = next
	}
}

// better is the better of a choice and a rank that it is not, if that has room now.
func (b *Balancer) better(c choice, l *level, q *Request, g int) choice {
	k := &b.ranks[g]
	if !k.open() {
		return c
	}
	at, more, width := b.kv(g), q.KV-b.there(q, g), k.width+int64(q.Width)
	if width <= l.requests && at+more <= k.capacity {
		cost := b.costOn(l, g, at+more, width)
		if l.turns {
			at = 0 // as much as any
		}
		c.offer(g, cost, at)
	}
	return c
}

// costOn is what a rank costs beyond what the unit pays for anyway. Where ranks
// differ in speed that is how long the rank itself takes.
func (b *Balancer) costOn(l *level, g int, kv, width int64) float64 {
	if b.unlike {
		c := &b.cfg.Cost
		return (float64(c.KV*float64(kv)) + float64(c.Request*float64(width))) / b.ranks[g].speed
	}
	return l.overCount(width) + l.overKV(kv)
}

// Holding a prefix once more costs capacity for as long as its requests run, so a
// rank that holds it is preferred until it costs a step more than the mean rank
// does by as much as so many copies and requests.
const (
	copiesWorth   = 2
	requestsWorth = 8
)

// join1 returns the best rank of those that hold the request's prefix; Full = none
// does that has room and costs little enough.
func (b *Balancer) join1(l *level, q *Request) int {
	i := b.prefixes.ids.Find(q.Prefix)
	if i < 0 {
		return Full
	}
	c := b.choice()
	cost := &b.cfg.Cost
	mean := (float64(cost.KV*float64(b.sumBase+b.sumWidth*b.clock)) + float64(cost.Request*float64(b.sumWidth))) / float64(b.active)
	most := mean + float64(copiesWorth*cost.KV*float64(q.Shared)) + float64(requestsWorth*cost.Request)
	for _, x := range b.prefixes.slots[i].copies {
		g := int(x.rank)
		kv := b.kv(g) + q.KV - min(x.tokens, q.Shared)
		if x.tokens < q.Shared/2 || float64(cost.KV*float64(kv))+float64(cost.Request*float64(b.ranks[g].width)) > most*b.ranks[g].speed || q.Among != nil && !slices.Contains(q.Among, g) {
			continue
		}
		b.offer(&c, l, q, g)
	}
	return c.rank
}
