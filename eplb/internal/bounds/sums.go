package bounds

import (
	"math"
	"slices"
	"sort"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// The sum bound. Let all GPUs have one speed and at least S slots, all filled,
// and let T be a level that is to be proved impossible. No two replicas above
// T/2 share a GPU, so for any t above T/2 the k replicas of at least t sit on k
// GPUs, beside at least (S-1)k others, which are no less than the smallest
// (S-1)k there are:
//
//	sum of the k of at least t + sum of the (S-1)k smallest ≤ kT
//
// The smallest m of any numbers s sum to at least m·y - sum of (y-s)⁺, for every
// y. So T asks of all replicas s that they add up to at most 0 in
//
//	[s ≥ t]·(s - T + (S-1)y) - (y-s)⁺
//
// Let each replica cost lambda beside. All replicas of an expert are equal, so
// what its cheapest number of copies costs is easily found; if all experts
// together cost more than lambda·slots, T is impossible. The excess is concave
// in y and lambda, and t matters only at sizes that replicas can have.

// Sums is the memory of the bound of one layer.
type Sums struct {
	w     []float64 // load of each expert
	order []int32   // experts by load, largest first
	sums  []float64 // of the loads of the coldest n, n = 0 and up
	other float64   // slots beside a replica: S-1
	slots float64
	least float64 // no replica is smaller
	sizes []float64
	T, t  float64 // as prepared
	hot   []hotExpert
	work  int // that may still be done: hot experts looked at
}

// certificate is what proves a level impossible.
type certificate struct{ t, y, lambda float64 }

// raise returns the highest level up to limit that it can prove impossible, and
// bound if that is higher. Cost: 0.2 ms for 256 experts.
func (b *Sums) raise(bound, limit float64) float64 {
	if cap(b.sums) < len(b.w)+1 {
		b.sums = make([]float64, len(b.w)+1)
	}
	b.sums = b.sums[:len(b.w)+1]
	for i := range b.w {
		b.sums[i+1] = b.sums[i] + b.w[b.order[len(b.w)-1-i]]
	}
	b.work = 1 << 24 // 256 experts take a tenth
	const step = 1 + 2e-5
	for T := bound * step; T < limit; T = bound * step {
		c, over := b.strongest(T)
		if over <= 0 {
			break
		}
		// The same prices often rule out much higher levels.
		lo, hi := T, limit
		if b.rulesOut(hi, c) {
			return hi
		}
		for hi > lo*(1+1e-6) {
			if mid := lo + (hi-lo)/2; b.rulesOut(mid, c) {
				lo = mid
			} else {
				hi = mid
			}
		}
		bound = lo
	}
	return bound
}

// RaiseFor raises a proved bound of the loads of s by the sum bound.
func (b *Sums) RaiseFor(s *pack.Packer, bound float64) float64 {
	if !s.U.Equal || bound >= s.Best.Level*(1-pack.ProvedTolerance) {
		return bound
	}
	least := s.U.Room(0)
	for g := range s.U.Gpu {
		least = min(least, s.U.Room(g))
	}
	b.w, b.order, b.other, b.slots = s.W, s.Order, float64(least-1), float64(s.U.Slots)
	// No replica is smaller than the coldest expert cut into all spare copies.
	b.least = s.W[s.Order[len(s.Order)-1]] / float64(s.U.Slots-len(s.W)+1)
	return b.raise(bound, s.Best.Level)
}

// rulesOut says whether c proves T impossible.
func (b *Sums) rulesOut(T float64, c certificate) bool {
	b.prepare(T, c.t)
	return b.excess(c.y, c.lambda) > 0
}

// mostSizes is how many sizes t is tried at: all but of very large layers.
const mostSizes = 2048

// strongest returns the certificate that exceeds most at level T.
func (b *Sums) strongest(T float64) (best certificate, over float64) {
	b.sizes = b.sizes[:0]
	for _, e := range b.order {
		w := b.w[e]
		if w <= T/2 {
			break
		}
		for n := float64(pack.CeilDiv(w, T)); w/n > T/2 && len(b.sizes) < mostSizes; n++ {
			b.sizes = append(b.sizes, w/n*(1-1e-9)) // a hair below: rounding must not matter
		}
	}
	slices.Sort(b.sizes)
	b.sizes = slices.Compact(b.sizes)
	// Coarsely first, then around the best; neighbours want like prices.
	best, over = certificate{y: T / 16, lambda: T / 4}, math.Inf(-1)
	center := 0
	try := func(i int) {
		if b.work <= 0 {
			return
		}
		c := best
		c.t = b.sizes[i]
		b.prepare(T, c.t)
		if v := b.climb(&c); v > over {
			best, over, center = c, v, i
		}
	}
	const stride = 6
	for i := 0; i < len(b.sizes); i += stride {
		try(i)
	}
	for from, i := center, max(center-stride+1, 0); i < min(from+stride, len(b.sizes)); i++ {
		try(i)
	}
	return best, over
}

// climb improves y and lambda of c.
func (b *Sums) climb(c *certificate) (over float64) {
	price := func(y, lambda float64) float64 { return min(max(lambda, y), 4*b.T) } // a copy of a cold expert must not earn
	c.lambda, c.y, over = climb(c.lambda, c.y, func(lambda, y float64) float64 { return b.excess(y, price(y, lambda)) })
	c.lambda = price(c.y, c.lambda)
	return over
}

// hotExpert is an expert of at least t: the fewest copies that bring it to T, the
// most that keep it at t, 0 if that is fewer, and the fewest that bring it below t.
type hotExpert struct{ w, fewest, most, below float64 }

// prepare sets T and t.
func (b *Sums) prepare(T, t float64) {
	b.T, b.t = T, t
	limit := float64(T*(1+1e-12)) - float64(b.other*b.least)
	b.hot = b.hot[:0]
	for _, e := range b.order {
		w := b.w[e]
		if w < t {
			break
		}
		h := hotExpert{w: w, fewest: float64(pack.CeilDiv(w, limit))}
		if most := math.Floor(w / t * (1 + 1e-12)); most >= h.fewest {
			h.most = most
		}
		h.below = max(math.Floor(w/t*(1-1e-12))+1, h.fewest)
		b.hot = append(b.hot, h)
	}
}

// excess is by how much all experts cost more than lambda·slots at the T and t
// prepared; above 0 it proves T impossible.
func (b *Sums) excess(y, lambda float64) float64 {
	if y > b.t || lambda < y {
		return math.Inf(-1) // the sums below would not hold
	}
	big := lambda - b.T + float64(b.other*y) // a big replica's price, less its size
	sum := 0.0
	b.work -= len(b.hot)
	for i := range b.hot {
		h := &b.hot[i]
		small := max(math.Floor(h.w/y)+1, h.fewest)
		x := min(h.below*lambda, h.w+float64(small*(lambda-y)))
		if h.most > 0 {
			x = min(x, h.w+float64(h.fewest*big), h.w+float64(h.most*big))
		}
		sum += x
	}
	cold := len(b.order) - b.firstBelow(y)
	sum += b.sums[cold] + float64(float64(cold)*(lambda-y))
	sum += float64(float64(len(b.order)-len(b.hot)-cold) * lambda)
	right := float64(lambda * b.slots)
	return sum - right - float64(1e-9*(right+sum))
}

// firstBelow is the first place in order of a load below y.
func (b *Sums) firstBelow(y float64) int {
	return sort.Search(len(b.order), func(i int) bool { return b.w[b.order[i]] < y })
}
