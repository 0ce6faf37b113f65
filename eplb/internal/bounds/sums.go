package bounds

import (
	"math"
	"slices"

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
	w     []float64 // load of each expert, largest first
	other float64   // slots beside a replica: S-1
	slots float64
	least float64 // no replica is smaller
	sizes []float64
	work  int // that may still be done: hot experts looked at
}

// certificate is what proves a level impossible.
type certificate struct{ t, y, lambda float64 }

// RaiseFor raises a proved bound of the loads of s by the sum bound: up to the level of
// the best plan, by the highest level that it can prove impossible. Cost: a millisecond
// for 256 experts.
func (b *Sums) RaiseFor(s *pack.Packer, bound float64) float64 {
	limit := s.Best.Level
	if !s.U.Equal || bound >= limit*(1-pack.ProvedTolerance) {
		return bound
	}
	b.w, b.other, b.slots, b.work = b.w[:0], math.Inf(1), float64(s.U.Slots), 1<<24
	for _, e := range s.Order {
		b.w = append(b.w, s.W[e])
	}
	for g := range s.U.Gpu {
		b.other = min(b.other, float64(s.U.Room(g)-1))
	}
	// No replica is smaller than the coldest expert cut into all spare copies.
	b.least = b.w[len(b.w)-1] / float64(s.U.Slots-len(b.w)+1)
	const step = 1 + 2e-5
	for bound*step < limit {
		c, over := b.strongest(bound * step)
		if over <= 0 {
			break
		}
		// The same prices often rule out much higher levels.
		hi := limit
		for bound *= step; hi > bound*(1+1e-6); {
			if mid := bound + (hi-bound)/2; b.excess(mid, c) > 0 {
				bound = mid
			} else {
				hi = mid
			}
		}
	}
	return bound
}

const (
	// mostSizes is how many sizes t is chosen from: all but of very large layers.
	mostSizes = 2048
	// stride is how many are left out at first, but for those beside the best: with all of
	// them, 1,024 experts on 1,024 GPUs of two slots take twice the time.
	stride = 6
)

// strongest returns the certificate that exceeds most at level T.
func (b *Sums) strongest(T float64) (best certificate, over float64) {
	b.sizes = b.sizes[:0]
	for _, w := range b.w {
		if w <= T/2 {
			break
		}
		for n := float64(pack.CeilDiv(w, T)); w/n > T/2 && len(b.sizes) < mostSizes; n++ {
			b.sizes = append(b.sizes, w/n*(1-1e-9)) // a hair below: rounding must not matter
		}
	}
	slices.Sort(b.sizes)
	best, over = certificate{y: T / 16, lambda: T / 4}, math.Inf(-1)
	center := 0
	try := func(i int) {
		if b.work <= 0 {
			return
		}
		t := b.sizes[i]
		price := func(y, lambda float64) float64 { return min(max(lambda, y), 4*T) } // a copy of a cold expert must not earn
		// Neighbours want like prices.
		lambda, y, v := climb(best.lambda, best.y, func(lambda, y float64) float64 {
			return b.excess(T, certificate{t, y, price(y, lambda)})
		})
		if v > over {
			best, over, center = certificate{t, y, price(y, lambda)}, v, i
		}
	}
	for i := 0; i < len(b.sizes); i += stride {
		try(i)
	}
	for i, end := max(center-stride+1, 0), min(center+stride, len(b.sizes)); i < end; i++ {
		try(i)
	}
	return best, over
}

// climb changes two prices by ever smaller factors, one of them or both, until no way
// to do so proves more.
func climb(a, b float64, proves func(a, b float64) float64) (x, y, most float64) {
	most = proves(a, b)
	for _, step := range [...]float64{2, 1.4, 1.1, 1.03, 1.01} {
		for i, failed := 0, 0; failed < 8; i, failed = i+1, failed+1 {
			f := step
			if i&4 > 0 {
				f = 1 / step
			}
			by := [4][2]float64{{f, 1}, {1, f}, {f, f}, {f, 1 / f}}[i&3]
			if v := proves(a*by[0], b*by[1]); v-most > 1e-9*math.Abs(most) {
				a, b, most, failed = a*by[0], b*by[1], v, -1
			}
		}
	}
	return a, b, most
}

// excess is by how much all experts cost more than lambda·slots; above 0 it proves T
// impossible.
func (b *Sums) excess(T float64, c certificate) float64 {
	t, y, lambda := c.t, c.y, c.lambda
	if y > t || lambda < y {
		return math.Inf(-1) // what is said of small replicas below would not hold
	}
	big := lambda - T + float64(b.other*y) // a big replica's price, less its size
	limit := float64(T*(1+1e-12)) - float64(b.other*b.least)
	sum := 0.0
	for _, w := range b.w {
		if w < t { // one copy is cheapest
			sum += min(lambda, lambda-y+w)
			continue
		}
		b.work--
		// The fewest copies that bring it to T, the most that keep it at t, and the
		// fewest that bring it below t, or below y.
		fewest := float64(pack.CeilDiv(w, limit))
		most := math.Floor(w / t * (1 + 1e-12))
		below := max(math.Floor(w/t*(1-1e-12))+1, fewest)
		x := min(below*lambda, w+float64(max(math.Floor(w/y)+1, fewest)*(lambda-y)))
		if most >= fewest {
			x = min(x, w+float64(fewest*big), w+float64(most*big))
		}
		sum += x
	}
	right := float64(lambda * b.slots)
	return sum - right - float64(1e-9*(right+sum))
}
