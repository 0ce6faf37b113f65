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
// make it up. More must go where the pieces outnumber its slots. If under every choice
// of homes more have to go than may, T is impossible.

// offPiece is the k pieces of an expert.
type offPiece struct {
	size  float64
	k     int
	group int32
}

// awayBound raises a proved lower bound towards level for so many replicas off
// their nodes. Cost: some microseconds a step of a bisection.
func (lo *Planner) awayBound(bound, level float64, off int) float64 {
	for mid := bound * (1 + 1e-7); level > bound*(1+1e-6); mid = bound + (level-bound)/2 {
		if lo.canLeave(mid, off) {
			level = mid
		} else {
			bound = mid
		}
	}
	return bound
}

// canLeave says whether some choice of homes may do at level T with so many replicas off
// their nodes; it is then in lo.homes.best.
func (lo *Planner) canLeave(T float64, off int) bool {
	s, h := lo.S, lo.homes
	pieces := make([]offPiece, 0, len(s.Order))
	most := T * s.U.Fastest() * (1 + 1e-12) // a copy fewer only costs less
	for _, e := range s.Order {
		k := pack.CeilDiv(s.W[e], most)
		if k > len(s.U.Gpu) {
			return false
		}
		pieces = append(pieces, offPiece{s.W[e] / float64(k), k, e / int32(lo.per)})
	}
	slices.SortStableFunc(pieces, func(a, b offPiece) int { return cmp.Compare(b.size, a.size) })
	clear(lo.known)
	sum := func(a, b float64) float64 { return a + b }
	leave := func(n int, full bool) float64 {
		if !full {
			return 0
		}
		return lo.remember(n, func() float64 { return lo.mustLeave(n, T, pieces) })
	}
	h.search(float64(off), sum, leave, func(float64) bool { return true })
	return h.found
}

// mustLeave is how many replicas of the groups that the branch at hand gives
// node n must be elsewhere at level T.
func (lo *Planner) mustLeave(n int, T float64, pieces []offPiece) float64 {
	h := lo.homes
	rest := h.sum[n]*(1-1e-12) - float64(T*h.power[n])
	slots, x := -lo.nodes[n].s.U.Slots, 0.0
	for _, p := range pieces {
		if int(h.at[p.group]) != n {
			continue
		}
		if slots += p.k; rest > 0 && p.size > 0 {
			k := min(math.Ceil(rest/p.size*(1-1e-9)), float64(p.k))
			x += k
			rest -= float64(k * p.size * (1 + 1e-12))
		}
	}
	return max(x, float64(slots))
}
