package prefill

import "math"

// Add places one request now and returns its rank: the one on which it adds least
// to the unit's delay, in seconds; Full where no rank that may take it is in
// service and has room. A request's own work counts as often as the rank has, in
// tokens and in pairs apart, times the mean rank's; a prefix that is cached on a
// rank lessens that work there, so that affinity and balance are one decision. Of
// ranks that are alike the next after the one used last is taken. The request stays
// in the rank's ledger until Done.
//
// Errors: ErrValue, ErrKnown; ErrNever where it is too long for every rank that may
// take it, in service or not. With several routers, each tries its own share of the
// ranks first (see Config.Routers). The cost is linear in the ranks, or in Among;
// nothing is allocated but to hold more requests than ever before.
func (b *Balancer) Add(r Request) (rank int, err error) {
	if err := b.check(&r); err != nil {
		return Full, err
	}
	if b.countable(&r) != nil {
		return Full, nil
	}
	g := b.choose(&r)
	if g < 0 {
		return Full, nil
	}
	b.place(&r, g, r.cachedOn(g))
	b.turn = g + 1
	if b.turn == len(b.ranks) {
		b.turn = 0
	}
	return g, nil
}

// place enters a request that is not here into a rank's ledger.
func (b *Balancer) place(r *Request, g int, pos int64) {
	s := b.enter(r, pos, added)
	b.settleOn(s, g, pos, added)
	b.changed(g)
}

// choice is the best rank seen so far.
type choice struct {
	rank  int // -1 = none
	least float64
	tie   int // how long it is until its turn
}

func (c *choice) consider(g int, x float64, tie int) {
	if x < c.least || x == c.least && tie < c.tie {
		*c = choice{g, x, tie}
	}
}

// prices are what a token and a pair of work cost on a rank, for each that it has: a
// second of work costs as many as the rank has work, times the mean rank's. An idle
// unit is taken to have a short step's.
type prices struct {
	token, pair float64
	second      float64 // of both together
	cost        Cost
}

// together is how often the seconds of both weigh against those of each apart, where
// speeds differ: from 3 on no rank is later by more than with seconds alone.
const together = 3

func (b *Balancer) prices() prices {
	tokens := max(float64(b.seen.Tokens)/b.power, idleTokens)
	pairs := max(float64(b.seen.Pairs)/b.power, float64(pairsOf(idleTokens, 0)))
	p := prices{token: b.cost.Token / tokens, pair: b.cost.Pair / pairs, cost: b.cost}
	if b.unlike {
		// A slow rank that has little of one may still be the last with both.
		p.second = together / (float64(b.cost.Token*tokens) + float64(b.cost.Pair*pairs))
	}
	return p
}

// of is what work costs for each token and each pair that its rank has.
func (p *prices) of(w Work) (perToken, perPair float64) {
	t, a := float64(w.Tokens), float64(w.Pairs)
	perToken, perPair = float64(p.token*t), float64(p.pair*a)
	if p.second > 0 {
		s := p.second * p.cost.of(w)
		perToken += float64(s * p.cost.Token)
		perPair += float64(s * p.cost.Pair)
	}
	return perToken, perPair
}

// choose returns the rank on which a request costs least; -1 = none has room.
func (b *Balancer) choose(r *Request) int {
	if b.live == 0 {
		return -1
	}
	pr := b.prices()
	none := choice{-1, math.Inf(1), 0}
	best, own := none, none
	switch {
	case r.Among != nil:
		for _, g := range r.Among {
			b.consider(g, r, &pr, &best, &own)
		}
	case b.limited:
		for g := range b.ranks {
			b.consider(g, r, &pr, &best, &own)
		}
	default:
		p := r.Cached
		if r.CachedAt != nil { // most have nothing of it
			p = 0
		}
		best, own = b.chooseAny(WorkOf(r.Tokens-p, p), &pr)
		for g, c := range r.CachedAt {
			if c > 0 {
				b.consider(g, r, &pr, &best, &own)
			}
		}
	}
	if own.rank < 0 {
		return best.rank
	}
	// The own one, unless that costs more than the request's work on a mean rank.
	p := r.cachedOn(best.rank)
	if own.least <= best.least+b.cost.of(WorkOf(r.Tokens-p, p)) {
		return own.rank
	}
	return best.rank
}

// consider compares a rank with the best so far, and with the best of the router's own.
func (b *Balancer) consider(g int, r *Request, pr *prices, best, own *choice) {
	k, v := &b.ranks[g], &b.views[g]
	if !k.open || r.Tokens > k.room()-k.kv {
		return
	}
	p := r.cachedOn(g)
	w := WorkOf(r.Tokens-p, p)
	t, a := float64(w.Tokens), float64(w.Pairs)
	perToken, perPair := pr.of(w)
	x := float64(perToken*(v.tokens+float64(t*v.half))) + float64(perPair*(v.pairs+float64(a*v.half)))
	best.consider(g, x, b.tie(g))
	if b.cfg.Routers > 1 && g%b.cfg.Routers == b.cfg.Router {
		own.consider(g, x, b.tie(g))
	}
}

// tie is how long it is until a rank's turn.
func (b *Balancer) tie(g int) int {
	if g -= b.turn; g < 0 {
		g += len(b.ranks)
	}
	return g
}

// chooseAny is choose for a request that costs the same work wherever it is and
// that every rank in service takes.
func (b *Balancer) chooseAny(w Work, pr *prices) (best, own choice) {
	n, a := float64(w.Tokens), float64(w.Pairs)
	t, p := pr.of(w)
	half := float64(t*n) + float64(p*a)
	search := func(first, end, by int, c choice) choice {
		for g := first; g < end; g += by {
			v := &b.views[g]
			if x := float64(t*v.tokens) + float64(p*v.pairs) + float64(half*v.half); x < c.least {
				c.rank, c.least = g, x
			}
		}
		return c
	}
	none := choice{-1, math.Inf(1), 0}
	// The block that could be best says how good a rank there is at least, and what
	// can be no better is passed over.
	bound := func(i int) float64 {
		v := &b.blocks[i]
		return float64(t*v.tokens) + float64(p*v.pairs) + float64(half*v.half)
	}
	first, least := 0, math.Inf(1)
	for i := range b.blocks {
		if x := bound(i); x < least {
			first, least = i, x
		}
	}
	ranks := len(b.views)
	least = search(first*blockRanks, min((first+1)*blockRanks, ranks), 1, none).least
	best = none
	for g, left := b.turn, ranks; left > 0; {
		end := min((g/blockRanks+1)*blockRanks, g+left, ranks)
		if x := bound(g / blockRanks); !(x > least || x >= best.least) {
			best = search(g, end, 1, best)
		}
		left -= end - g
		if g = end; g == ranks {
			g = 0
		}
	}
	if own = none; b.cfg.Routers > 1 {
		first := b.turn + (b.cfg.Router-b.turn%b.cfg.Routers+b.cfg.Routers)%b.cfg.Routers
		own = search(b.cfg.Router, min(first, len(b.views)), b.cfg.Routers, none)
		if c := search(first, len(b.views), b.cfg.Routers, none); c.least <= own.least {
			own = c
		}
	}
	best.tie, own.tie = b.tie(best.rank), b.tie(own.rank)
	return best, own
}

// idleTokens is what a rank is taken to hold at least.
const idleTokens = 2048
