package homes

import (
	"cmp"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// The bound with replicas off their nodes. At level T an expert of load w has k =
// ceil(w/T) replicas or more, so x of them carry at most x·w/k, and w in all. A
// node whose groups have more load than its GPUs can carry must send the
// difference away, at least as many replicas as the largest such pieces need to
// make it up, those of an expert that is too much for it alone among them. More
// must go where the pieces outnumber its slots. If under every choice of homes more have to go than may, T is
// impossible.

// offPiece is the k pieces of an expert.
type offPiece struct {
	size  float64
	k     int
	group int32
}

// must is how many of the pieces must be elsewhere if their node carries at most
// most in all.
func (p *offPiece) must(most float64) int {
	over := float64(float64(p.k)*p.size) - most
	if over <= 0 {
		return 0
	}
	return min(p.k, int(math.Ceil(over/p.size*(1-1e-9))))
}

// awayBound raises a proved lower bound towards level for at most may replicas
// off their nodes. Cost: some microseconds a step of a bisection.
func (lo *Planner) awayBound(bound, level float64, may int) float64 {
	lo.may = may
	if bound >= level || lo.canLeave(bound*(1+1e-7)) {
		return bound
	}
	high := level
	for bound *= 1 + 1e-7; high > bound*(1+1e-6); {
		if mid := bound + (high-bound)/2; lo.canLeave(mid) {
			high = mid
		} else {
			bound = mid
		}
	}
	return bound
}

// canLeave says whether some choice of homes may do at level T; it is then in
// lo.homes.best.
func (lo *Planner) canLeave(T float64) bool {
	s := lo.S
	lo.level, lo.pieces = T, lo.pieces[:0]
	most := T * s.U.Fastest() * (1 + 1e-12) // a copy fewer only costs less
	for _, e := range s.Order {
		k := pack.CeilDiv(s.W[e], most)
		if k > len(s.U.Gpu) {
			return false
		}
		p := offPiece{s.W[e] / float64(k), k, e / int32(lo.per)}
		lo.pieces = append(lo.pieces, p)
	}
	slices.SortStableFunc(lo.pieces, func(a, b offPiece) int { return cmp.Compare(b.size, a.size) })
	lo.stamp += 2
	return lo.homes.within(float64(lo.may), lo.mustLeave)
}

// mustLeave is how many replicas of the groups that the branch at hand gives
// node n must be elsewhere; beyond what may it only says so.
func (lo *Planner) mustLeave(n int, mask uint32) float64 {
	i := -1
	if lo.bound != nil {
		if i = lo.memo(n, mask); lo.state[i] == lo.stamp {
			return lo.bound[i]
		}
	}
	h := lo.homes
	if i < 0 {
		h.visits -= len(lo.pieces) / 16 // nothing remembered: each costs
	}
	d := &lo.nodes[n]
	rest := h.sum[n]*(1-1e-12) - float64(lo.level*h.power[n])
	slots, x := -d.s.U.Slots, 0
	for _, p := range lo.pieces {
		if int(h.at[p.group]) != n {
			continue
		}
		slots += p.k
		// What the node cannot carry of one expert must leave in any case.
		if must := p.must(lo.level * h.power[n]); must > 0 {
			x += must
			rest -= float64(float64(must) * p.size)
		}
	}
	for _, p := range lo.pieces {
		if rest <= 0 || x > lo.may {
			break
		}
		if int(h.at[p.group]) != n {
			continue
		}
		if p.size <= 0 {
			break
		}
		k := p.k - p.must(lo.level*h.power[n])
		if q := math.Ceil(rest / p.size * (1 - 1e-9)); q < float64(k) {
			k = int(q)
		}
		x += k
		rest -= float64(float64(k) * p.size * (1 + 1e-12))
	}
	v := float64(max(x, slots, 0))
	if i >= 0 {
		lo.state[i], lo.bound[i] = lo.stamp, v
	}
	return v
}
