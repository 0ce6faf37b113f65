package decode

import "math"

// rule is how a request is placed. A step costs what the rank of most KV use and
// the rank of most requests cost, so filling a rank up to what the unit pays for
// anyway is free. What it pays for is the water level: KV use above the mean by a
// share of a long prompt, since the longest prompts need holes as deep as they
// are, and of the maximum's rise above the mean a share (not all: else the level
// would never sink again); and the request count that an even spread needs.
//
// Among the ranks that stay within both, the request joins the one of most KV use.
// That keeps the deepest holes for the longest prompts, each of which would
// otherwise set a new maximum for as long as it runs. Where no rank stays within,
// it goes where the overflow costs least: KV beyond the level and requests beyond
// the count, each in seconds, growing faster than the overflow, since a larger one
// also lasts longer.
type rule struct {
	spare float64 // the level above the mean, as a share of a long prompt
	share float64 // of the maximum's rise above the mean
	count float64 // what a request beyond the even count weighs
	paid  float64 // the same where some rank runs as many already
	bend  float64 // growth of the overflow's cost, a mean request
}

// The figures are fitted to generated and measured loads: see package bench.
var (
	immediate = rule{spare: 0.1, share: 0.25, count: 0.5, paid: 0.3, bend: 0.5}
	// shared leaves more room: a router sees what the others do some steps late,
	// and has its own ranks alone to choose from.
	shared  = rule{spare: 0.2, share: 0.4, count: 0.5, paid: 0.3, bend: 0.5}
	jointly = rule{spare: 0.07, share: 0.25, count: 1, paid: 1, bend: 0.2}
	// evenly fills the emptiest ranks of an even count, for loads in which growth
	// drives the ranks apart further than any prompt could fill.
	evenly = rule{count: 4, paid: 1, bend: 0.5}
	// balanced prices what lies beyond the mean.
	balanced = rule{count: 1, paid: 1, bend: 0.5}
)

// afar is the cost, in requests, above which a router looks beyond its own share.
const afar = 3

// apart is the rise of the maximum, in long prompts, above which growth is what
// drives the ranks apart.
const apart = 0.35

// long is of how many prompts the longest is a long one.
const long = 200

// level is the rule applied to the unit's state for one more request.
type level struct {
	*rule
	kv       float64 // the water level, tokens
	even     int64   // requests on a rank in an even spread
	most     int64   // requests on the fullest rank
	mean     float64 // KV use of a mean request
	kvCost   float64 // seconds a token
	count    float64 // seconds a request
	capacity int64
	requests int64
}

// over is the cost of x beyond what is free.
func (l *level) over(x, unit, cost float64) float64 {
	if x <= 0 {
		return 0
	}
	return cost * x * (1 + float64(l.bend*x)/unit)
}

// overKV is the cost of a rank at kv.
func (l *level) overKV(kv int64) float64 { return l.over(float64(kv)-l.kv, l.mean, l.kvCost) }

// overCount is the cost of a rank that runs n.
func (l *level) overCount(n int64) float64 {
	c := l.over(float64(n-l.even), 1, l.count)
	if n <= l.most {
		c *= l.paid
	}
	return c
}

// level applies a rule to the state with kv tokens and width requests more; most
// is the largest KV use of a rank.
func (b *Balancer) level(r *rule, most, kv, width int64) level {
	sumKV := b.sumBase + b.sumWidth*b.clock + kv
	sumWidth := b.sumWidth + width
	mean := float64(sumKV) / float64(b.active)
	l := level{
		rule: r, kv: mean + float64(r.spare*float64(b.long)), mean: max(1, float64(sumKV)/float64(max(1, sumWidth))),
		even:   (sumWidth + b.active - 1) / b.active,
		kvCost: b.cfg.Cost.KV, count: b.cfg.Cost.Request * r.count,
		capacity: unlimited, requests: unlimited,
	}
	if rise := float64(most) - mean; rise > 0 {
		l.kv += float64(r.share * rise)
	}
	if b.others != nil {
		l.even++ // what other routers place meanwhile makes an exact count moot
	}
	if b.cfg.Cost.KV == 0 {
		l.kv = 1 << 61
	}
	if !b.unlike {
		l.capacity = b.ranks[0].capacity
		l.kv = min(l.kv, float64(l.capacity))
	}
	if b.cfg.MaxRequests > 0 {
		l.requests = int64(b.cfg.MaxRequests)
	}
	return l
}

// peak returns the largest KV use and width of a serving rank.
func (b *Balancer) peak() (kv, width int64) {
	kv = math.MinInt64
	for _, set := range [...]*levels{b.mine, b.others} {
		if set == nil {
			continue
		}
		for w := set.next(0); w >= 0; w = set.next(w + 1) {
			kv, width = max(kv, set.largest(w)+w*b.clock), max(width, w)
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

// alone is the rule for a request that is placed on arrival.
func (b *Balancer) alone() *rule {
	if b.others != nil {
		return &shared
	}
	return &immediate
}

// place returns the rank for a request; Full = none has room for it to finish.
func (b *Balancer) place(r *rule, q *Request) int {
	if b.active == 0 {
		return Full
	}
	l := b.now(r, q)
	if b.unlike || q.Among != nil || q.Shared > 0 {
		return b.placeAmong(&l, q)
	}
	c := choice{rank: Full, turn: b.turn}
	b.search(&c, b.mine, &l, q)
	if b.others != nil && (c.rank < 0 || c.cost > afar*b.cfg.Cost.Request) {
		b.search(&c, b.others, &l, q)
	}
	if c.rank >= 0 && !b.fits(c.rank, q, q.KV) {
		if b.hopeless(q) {
			return Full
		}
		if c = b.scan(&l, q); c.rank < 0 {
			b.refuse(q)
		}
	}
	return c.rank
}

// now is the level that a request meets.
func (b *Balancer) now(r *rule, q *Request) level {
	most, widest := b.peak()
	switch {
	case r == &jointly && b.uneven(most):
		r = &evenly
	case r == &immediate && b.growing():
		r = &balanced
	}
	l := b.level(r, most, q.KV, int64(q.Width))
	l.most = widest
	return l
}

// search offers the best rank of every width in a set. Within a width, cost falls
// with KV use down to the level and no further.
func (b *Balancer) search(c *choice, set *levels, l *level, q *Request) {
	kv, width := q.KV, int64(q.Width)
	room := int64(math.Floor(l.kv)) - kv // KV use up to which a rank stays within the level
	for w := set.next(0); w >= 0 && w+width <= l.requests; w = set.next(w + 1) {
		count := l.overCount(w + width)
		if c.rank >= 0 && count > c.cost {
			break // from here on the count alone costs more
		}
		grown := w * b.clock
		g := set.most(w, room-grown)
		if g < 0 {
			least := set.least(w)
			if least+grown+kv > l.capacity {
				continue
			}
			g = set.most(w, least)
		}
		g = set.from(w, b.base[g], int32(c.turn))
		at := b.base[g] + grown
		c.offer(int(g), count+l.overKV(at+kv), at)
	}
}

// scan is search over every rank by itself, past those where the request would
// not finish.
func (b *Balancer) scan(l *level, q *Request) choice {
	c := choice{rank: Full, turn: b.turn}
	for g := range b.ranks {
		b.offer(&c, l, q, g)
	}
	return c
}

// growing reports whether what requests generate comes to half of their prompts:
// then growth, and not prompts, makes the maximum, and holes kept for long prompts
// are not worth what they cost.
func (b *Balancer) growing() bool {
	out, in := &b.learned, &b.prompts
	return out.all >= enough && 2*float64(out.total)*float64(in.all) > float64(in.total)*float64(out.all)
}

// uneven reports whether the fullest rank stands so far above the mean that long
// prompts are not what put it there.
func (b *Balancer) uneven(most int64) bool {
	mean := float64(b.sumBase+b.sumWidth*b.clock) / float64(b.active)
	return float64(most)-mean > apart*float64(b.long)
}
