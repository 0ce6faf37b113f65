package decode

import (
	"cmp"
	"math"
	"slices"
)

// Standout is a request so large that no placement hides it.
type Standout struct {
	ID   ID
	Rank int
	KV   int64
	// Split is by how many seconds a step would be shorter if its KV cache were
	// split evenly over the serving ranks, as context parallelism does, and all
	// else stayed; 0 = another rank holds as much.
	Split float64
}

// noticed is the share of a step from which on a request stands out.
const noticed = 0.01

// Standouts appends to dst the requests whose KV use alone makes at least a
// hundredth of a step, the largest first, and returns by how many seconds a step
// would be shorter if all of them were split over the serving ranks. Where that is
// much, moving requests (Rebalance) or splitting them pays; where there are none,
// placement alone keeps the unit even. Nothing changes. O(requests and ranks).
func (b *Balancer) Standouts(dst []Standout) ([]Standout, float64) {
	if b.active == 0 {
		return dst, 0
	}
	first := len(dst)
	least := noticed * b.StepSeconds()
	alone := make([]int64, len(b.ranks)) // KV use of those on a rank
	most, second, split := int64(math.MinInt64), int64(math.MinInt64), int64(0)
	for g := range b.ranks {
		most, second = max(most, b.kv(g)), max(second, min(most, b.kv(g)))
		for _, i := range b.ranks[g].members {
			q := &b.requests[i]
			if kv := q.kv(b.clock) - q.shared; kv > 0 && float64(b.cfg.Cost.KV*float64(kv)) >= least {
				dst = append(dst, Standout{ID: q.id, Rank: g, KV: kv})
				alone[g] += kv
				split += kv
			}
		}
	}
	for n := range dst[first:] {
		s := &dst[first+n]
		share := s.KV / b.active
		if b.kv(s.Rank) == most {
			s.Split = float64(b.cfg.Cost.KV * float64(max(most-max(second, most-s.KV)-share, 0)))
		}
	}
	rest := int64(0)
	for g := range alone {
		rest = max(rest, b.kv(g)-alone[g])
	}
	slices.SortFunc(dst[first:], func(x, y Standout) int {
		return cmp.Or(cmp.Compare(y.KV, x.KV), cmp.Compare(x.ID, y.ID))
	})
	return dst, float64(b.cfg.Cost.KV * float64(max(most-rest-split/b.active, 0)))
}
