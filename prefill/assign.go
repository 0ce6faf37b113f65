package prefill

import (
	"fmt"
	"math"
)

// Assign places one request now and returns its rank: the one on which it adds
// least to the unit's delay, in seconds. A request's own work counts as often as
// the rank has, in tokens and in pairs apart, times the mean rank's; a prefix
// that is cached on a rank lessens that work there, so that affinity and balance
// are one decision. The request stays in the rank's ledger until Done.
//
// It is an error, and nothing has changed, if the request is bad or known already
// or no rank is in service. With several routers, each tries its own share of the
// ranks first (see Config.Routers). The cost is linear in the ranks; nothing is
// allocated but to hold more requests than ever before.
func (b *Balancer) Assign(r Request) (rank int, err error) {
	if err := b.check(&r); err != nil {
		return -1, err
	}
	if b.live == 0 {
		return -1, fmt.Errorf("%w: all %d ranks are drained", ErrFull, len(b.ranks))
	}
	g := b.choose(&r)
	pos := r.cachedOn(g)
	s := b.enter(&r, pos, assigned)
	b.requests[s].rank = int32(g)
	k := &b.ranks[g]
	k.requests++
	k.work = k.work.plus(WorkOf(r.Tokens-pos, pos))
	b.changed(g)
	return g, nil
}

func (r *Request) cachedOn(g int) int64 {
	if r.CachedAt != nil {
		return r.CachedAt[g]
	}
	return r.Cached
}

// choose returns the rank on which a request costs least.
func (b *Balancer) choose(r *Request) int {
	// a second of work costs as many as the rank has work, times the mean rank's; an
	// idle unit is taken to have a short step's
	live := float64(b.live)
	tokens := max(float64(b.seen.Tokens)/live, calmTokens)
	pairs := max(float64(b.seen.Pairs)/live, float64(pairsOf(calmTokens, 0)))
	perToken, perPair := b.cost.Token/tokens, b.cost.Pair/pairs
	best, own := -1, -1
	least, ownLeast := math.Inf(1), math.Inf(1)
	if r.CachedAt == nil {
		w := WorkOf(r.Tokens-r.Cached, r.Cached)
		// what depends on the rank alone
		t, p := float64(perToken*float64(w.Tokens)), float64(perPair*float64(w.Pairs))
		for g := range b.views {
			v := &b.views[g]
			if x := float64(t*v.tokens) + float64(p*v.pairs); x < least {
				best, least = g, x
			}
		}
		if b.cfg.Routers > 1 {
			for g := b.cfg.Router; g < len(b.views); g += b.cfg.Routers {
				v := &b.views[g]
				if x := float64(t*v.tokens) + float64(p*v.pairs); x < ownLeast {
					own, ownLeast = g, x
				}
			}
			return b.prefer(best, own, least, ownLeast, w)
		}
		return best
	}
	for g := range b.views {
		v := &b.views[g]
		if math.IsInf(v.tokens, 1) {
			continue
		}
		p := r.CachedAt[g]
		w := WorkOf(r.Tokens-p, p)
		n, a := float64(w.Tokens), float64(w.Pairs)
		x := float64(float64(perToken*n)*(v.tokens+n/2)) + float64(float64(perPair*a)*(v.pairs+a/2))
		if x < least {
			best, least = g, x
		}
		if b.cfg.Routers > 1 && g%b.cfg.Routers == b.cfg.Router && x < ownLeast {
			own, ownLeast = g, x
		}
	}
	if b.cfg.Routers > 1 {
		p := r.CachedAt[best]
		return b.prefer(best, own, least, ownLeast, WorkOf(r.Tokens-p, p))
	}
	return best
}

// prefer decides between the best rank and the best of a router's own share: the
// own one, unless that costs more than the request's work on a mean rank.
func (b *Balancer) prefer(best, own int, least, ownLeast float64, w Work) int {
	if own >= 0 && ownLeast <= least+b.cost.of(w) {
		return own
	}
	return best
}
