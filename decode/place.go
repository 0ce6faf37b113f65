package decode

import (
	"math"

	"github.com/moelb/moelb/decode/internal/levels"
)

// level applies a rule to the unit's state with kv tokens and width requests more,
// the first of a batch of so many.
func (b *Balancer) level(r *rule, kv, width, batch int64) level {
	x := load{ranks: b.active, kv: b.sumBase + b.sumWidth*b.clock + kv, width: b.sumWidth + width, batch: batch - width, long: b.long, limit: b.limit()}
	if b.shares != nil {
		moreKV, more := b.shares.Unheard(b.clock)
		x.kv, x.width = max(kv, x.kv+moreKV), max(width, x.width+more)
	}
	x.most, x.widest = b.peak()
	x.spread()
	l := levelOf(r, &b.cfg.Cost, &x)
	// A router that has heard of nobody else's requests, though steps were made, may be
	// alone: it fills all ranks, evenly, since others may be filling them too.
	l.alone = b.shares != nil && b.clock > 0 && b.sumWidth <= b.sumOwn
	l.low = l.low || l.alone
	if b.cfg.MaxRequests > 0 {
		l.requests = int64(b.cfg.MaxRequests)
	}
	return l
}

// limit is the KV use that every rank has room for.
func (b *Balancer) limit() float64 {
	if b.unlike {
		return unlimited
	}
	return float64(b.ranks[0].capacity)
}

// peak returns the largest KV use and width of a serving rank.
func (b *Balancer) peak() (kv, width int64) {
	kv = math.MinInt64
	for _, set := range [...]*levels.Levels{b.mine, b.others} {
		if set == nil {
			continue
		}
		for i, w := range set.Widths {
			kv, width = max(kv, set.Largest(set.Roots[i])+w*b.clock), max(width, w)
		}
	}
	return kv, width
}

// choice is the best rank seen: the least cost, then the most KV use, then the
// first from turn on, round about.
type choice struct {
	rank int
	cost float64
	kv   int64
	turn int
}

// choice is of no rank yet.
func (b *Balancer) choice() choice { return choice{rank: Full, turn: b.turn} }

func (c *choice) offer(rank int, cost float64, kv int64) {
	if c.rank < 0 || cost < c.cost || cost == c.cost && (kv > c.kv || kv == c.kv && c.sooner(rank)) {
		c.rank, c.cost, c.kv = rank, cost, kv
	}
}

// sooner reports whether a rank comes before the best seen.
func (c *choice) sooner(rank int) bool {
	if late := rank < c.turn; late != (c.rank < c.turn) {
		return !late
	}
	return rank < c.rank
}

// rule is the rule that is followed now, for a request of so many tokens. What fills a
// unit before its first step lasts long, whatever comes after it: where that is not
// known, room is kept.
func (b *Balancer) rule(kv int64) *rule {
	switch {
	case b.others != nil:
		return &shared
	case b.model.ranks == 0 || b.model.steps > 0:
	case b.alike(kv):
		return &round
	default:
		return &wide
	}
	return &each[b.model.chosen]
}

// alike reports whether all requests, and one of so many tokens, are of about one length:
// none longer than two others, nor by more than what a request costs. Then KV use is no
// reason to leave the counts uneven.
func (b *Balancer) alike(kv int64) bool {
	least, most := b.prompts.bounds(kv)
	return most <= 2*least && float64(b.cfg.Cost.KV*float64(most-least)) < b.cfg.Cost.Request
}

// take is place of a request that will be there.
func (b *Balancer) take(r *rule, q *Request, batch int64) int {
	g := b.place(r, q, batch)
	b.lives.barred = b.lives.barred || b.barred
	if g == Full && b.barred {
		b.lives.waits.refused(q.ID, b.clock, b.lives.at)
	}
	return g
}

// place returns the rank for a request, the first of a batch of so much width;
// Full = none has room for it to finish.
func (b *Balancer) place(r *rule, q *Request, batch int64) int {
	b.barred = false
	if b.active == 0 {
		return Full
	}
	l := b.level(r, q.KV, int64(q.Width), batch)
	return b.placeAt(&l, q)
}

// placeAt is place at a level, where some rank serves.
func (b *Balancer) placeAt(l *level, q *Request) int {
	if g := b.visit(*l, q); g >= 0 {
		return g
	}
	if b.unlike || q.Among != nil || q.Shared > 0 {
		return b.placeAmong(l, q)
	}
	c := b.choice()
	if l.turns {
		b.next(&c, l, q)
	} else {
		b.search(&c, b.mine, l, q)
	}
	if b.others != nil && (c.rank < 0 || l.alone) {
		b.search(&c, b.others, l, q)
	}
	if c.rank >= 0 && !b.fits(c.rank, q, q.KV) {
		if b.hopeless(q) {
			return Full
		}
		c = b.scan(l, q)
	}
	return c.rank
}

// visit returns the rank of another share for a request that is to go to one, see
// shares: of those that cost least that of least KV use. Full = none.
func (b *Balancer) visit(l level, q *Request) int {
	if b.shares == nil || l.alone || q.Among != nil || q.Shared > 0 {
		return Full
	}
	l.low = true
	c, h := b.choice(), b.shares.Guest(b.clock, q.KV, q.Width)
	for g := h; h >= 0 && g < len(b.ranks); g += b.cfg.Routers {
		b.offer(&c, &l, q, g)
	}
	return c.rank
}

// next offers the ranks of the fewest requests and beside them all ranks in turn, until
// one of these costs no more than its count or those are through: whichever is sooner. It
// offers every rank where none of the fewest costs so little.
func (b *Balancer) next(c *choice, l *level, q *Request) {
	least, turn := l.overCount(b.mine.Widths[0]+int64(q.Width)), b.turn
	for g := range b.mine.Ascending(b.mine.Roots[0]) {
		*c = b.better(*c, l, q, int(g))
		t := turn % len(b.ranks)
		if *c = b.better(*c, l, q, t); c.rank == t && c.cost <= least {
			return
		}
		turn++
	}
	if c.rank >= 0 && c.cost <= least && l.count > 0 {
		return // any that runs more costs more
	}
	for g := range b.ranks {
		*c = b.better(*c, l, q, g)
	}
}

// search offers the best rank of every width in a set. Within a width, cost falls
// with KV use down to the level and no further.
func (b *Balancer) search(c *choice, set *levels.Levels, l *level, q *Request) {
	kv, width := q.KV, int64(q.Width)
	capacity := b.ranks[0].capacity
	for i, w := range set.Widths {
		count := l.overCount(w + width)
		if w+width > l.requests || c.rank >= 0 && count > c.cost {
			break // from here on the count alone costs more
		}
		grown, root := w*b.clock, set.Roots[i]
		g := set.Most(root, l.room(kv)-grown)
		if g < 0 || l.low {
			least := set.Least(root)
			if least+grown+kv > capacity {
				continue
			}
			g = set.Most(root, least)
		}
		at := b.base[g] + grown
		if cost := count + l.overKV(at+kv); c.rank < 0 || cost < c.cost || cost == c.cost && at >= c.kv {
			c.offer(int(set.From(root, b.base[g], int32(c.turn))), cost, at)
		}
	}
}

// scan is search over every rank by itself, past those where the request would
// not finish. Where those that would be better are more than half of the unit, it is the
// unit that is full, and who is left would take the requests of all: none takes more than
// there are in an even spread or on the fullest rank, since a step is as long for everybody.
func (b *Balancer) scan(l *level, q *Request) choice {
	c := b.choice()
	for g := range b.ranks {
		b.offer(&c, l, q, g)
	}
	if c.rank < 0 {
		b.refuse(q)
		return c
	}
	if b.ranks[c.rank].width < max(l.fair, l.most) {
		return c
	}
	passed := int64(0)
	for g := range b.ranks {
		if b.better(c, l, q, g).rank != c.rank {
			passed++
		}
	}
	if 2*passed > b.active {
		c.rank = Full
	}
	return c
}
