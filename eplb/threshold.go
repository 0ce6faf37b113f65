package eplb

import (
	"math"
	"slices"
)

// The threshold bound. Let every GPU have at least S slots, all filled, and equal speed,
// and let T be a level that is to be proved impossible. Choose a threshold t
// above T/2 and call a replica big if it carries at least t, small if at most
// T-t. A GPU with a big replica has at least S-1 small ones, so
//
//	(S-1)·big - small ≤ 0
//
// Weigh several thresholds, each with a price mu, and let a slot cost lambda. All
// replicas of an expert are equal, so an expert of n copies costs
//
//	n · (lambda + sum over thresholds of mu·((S-1)·[big] - [small]))
//
// and if the cheapest n of every expert together cost more than lambda·slots, T
// is impossible. For S = 2 the linear programme of all thresholds is tight. One
// threshold in the middle nearly suffices, and a second for the largest
// replicas, which need one of the very smallest beside them.

// thresholdBound raises a proved lower bound towards level, which a placement
// has reached, as far as one threshold, or with two as far as two, can prove.
// Cost: a tenth of a millisecond for 256 experts and 2 slots a GPU, a
// millisecond for two thresholds.
func (s *solver) thresholdBound(bound, level float64, two bool) float64 {
	u := s.u
	each := u.room(0)
	for g := range u.speed {
		each = min(each, u.room(g))
	}
	if !u.equal || each < 2 {
		return bound
	}
	t := &s.threshold
	t.w, t.order, t.each, t.slots = s.w, s.order, float64(each), float64(u.slots)
	// No replica is smaller than the coldest expert cut into all spare copies.
	t.least = s.w[s.order[len(s.order)-1]] / float64(u.slots-len(s.w)+1)
	// Bisect for the highest impossible level, near the placement's own first.
	// Prices that rule out one level often rule out more.
	high, T := level, level*(1-1e-4)
	for high > bound*(1+1e-4) && T > bound {
		c, over := t.strongest(T)
		if over <= 0 && two {
			c, over = t.second(T, c)
		}
		if over <= 0 {
			high = T
		} else {
			lo, hi := T, high
			for hi > lo*(1+1e-6) {
				mid := lo + (hi-lo)/2
				if t.excess(mid, c) > 0 {
					lo = mid
				} else {
					hi = mid
				}
			}
			bound = lo
		}
		T = bound + (high-bound)/2
	}
	return bound
}

// threshold is what the bound of one layer needs.
type threshold struct {
	w     []float64
	order []int32
	each  float64 // the fewest slots of a GPU
	slots float64
	least float64 // no replica is smaller
	sizes []float64
	hot   [][5]float64 // of each expert that is big as it is, the fewest copies to be huge or less, … tiny
	cold  []coldRun    // the others, equal ones together
}

// coldRun is some experts that are not big: how many, what they are uncut
// (2 = middling, 3 = small, 4 = tiny), the fewest copies to be small and tiny.
type coldRun struct {
	n, small, tiny float64
	class          int
}

// certificate is one or two thresholds and their prices; the first's price is 1.
type certificate struct {
	at     float64 // the first threshold
	huge   float64 // the second; +Inf = none
	mu     float64 // the price of the second
	lambda float64 // the price of a slot
}

// strongest returns the certificate of one threshold that most exceeds what T
// allows. Thresholds matter only at the sizes that replicas can have.
func (t *threshold) strongest(T float64) (best certificate, over float64) {
	t.sizes = t.sizes[:0]
	for _, e := range t.order {
		w := t.w[e]
		if w <= T/2 {
			break
		}
		for n := math.Ceil(w / (T - t.least)); w/n > T/2; n++ {
			if w/n <= T-t.least {
				t.sizes = append(t.sizes, w/n*(1-1e-12)) // a hair below: rounding must not matter
			}
		}
	}
	slices.Sort(t.sizes)
	t.sizes = slices.Compact(t.sizes)
	// Of very many take some: any threshold proves what it proves.
	if most := min(max(1<<22/len(t.order), 64), 2048); len(t.sizes) > most {
		for i := range most {
			t.sizes[i] = t.sizes[i*(len(t.sizes)/most)]
		}
		t.sizes = t.sizes[:most]
	}
	best, over = certificate{huge: math.Inf(1), lambda: 6}, math.Inf(-1)
	lambda, center := best.lambda, -1
	// Coarsely first, then around the best.
	const stride = 4
	for i := 0; i < len(t.sizes); i += stride {
		if t.try(T, certificate{at: t.sizes[i], huge: math.Inf(1), lambda: lambda}, &best, &over) {
			lambda, center = best.lambda, i
		}
	}
	if center < 0 {
		return best, over
	}
	for i := max(center-stride+1, 0); i < min(center+stride, len(t.sizes)); i++ {
		t.try(T, certificate{at: t.sizes[i], huge: math.Inf(1), lambda: lambda}, &best, &over)
	}
	return best, over
}

// second adds a second threshold to the best certificate of one.
func (t *threshold) second(T float64, one certificate) (best certificate, over float64) {
	best, over = one, math.Inf(-1)
	if len(t.sizes) == 0 {
		return best, over
	}
	mid, _ := slices.BinarySearch(t.sizes, one.at)
	for i := mid + 1; i < len(t.sizes); i++ {
		c := one
		c.huge, c.mu = t.sizes[i], .3
		c.lambda = max(c.lambda, 1.31)
		t.try(T, c, &best, &over)
	}
	for i := max(mid-6, 0); i < min(mid+6, len(t.sizes)); i++ {
		c := best
		if c.at = t.sizes[i]; c.at < c.huge {
			t.try(T, c, &best, &over)
		}
	}
	return best, over
}

// try climbs from c and takes what it finds if it is better than best.
func (t *threshold) try(T float64, c certificate, best *certificate, over *float64) bool {
	t.classify(T, c)
	v := t.climb(&c)
	if v <= *over {
		return false
	}
	*best, *over = c, v
	return true
}

// climb improves the prices of c, of which the excess is a concave function.
func (t *threshold) climb(c *certificate) float64 {
	over := t.price(*c)
	ways := 1
	if !math.IsInf(c.huge, 1) {
		ways = 3
	}
	for _, step := range [...]float64{2, 1.3, 1.08, 1.02} {
		for again := true; again; {
			again = false
			for _, f := range [2]float64{step, 1 / step} {
				for way := range ways {
					d := *c
					if way != 1 {
						d.lambda *= f
					}
					if way != 0 {
						d.mu *= f
					}
					d.lambda = max(d.lambda, 1+d.mu) // a tiny replica must not earn
					if v := t.price(d); v > over {
						*c, over, again = d, v, true
					}
				}
			}
		}
	}
	return over
}

// excess is by how much c's experts cost more than lambda·slots at level T;
// above 0 it proves T impossible.
func (t *threshold) excess(T float64, c certificate) float64 {
	t.classify(T, c)
	return t.price(c)
}

// classify counts copies: how few make each expert huge or less, big or less,
// middling or less, small or less, tiny.
func (t *threshold) classify(T float64, c certificate) {
	small, tiny := T-c.at, T-c.huge
	two := !math.IsInf(c.huge, 1)
	t.hot, t.cold = t.hot[:0], t.cold[:0]
	last := coldRun{}
	hot := 0
	for ; hot < len(t.order) && t.w[t.order[hot]] >= c.at; hot++ {
		w := t.w[t.order[hot]]
		k := [5]float64{fewest(w, T-t.least), 0, 0, fewest(w, small), math.Inf(1)}
		k[1] = k[0]
		if two {
			k[1] = max(k[0], fewestBelow(w, c.huge))
			k[4] = fewest(w, tiny)
		}
		k[2] = max(k[0], fewestBelow(w, c.at))
		t.hot = append(t.hot, k)
	}
	// The others come in runs: find where each ends. Counts of copies are cut
	// off at a few, which only makes them cheaper than they are.
	for i := hot; i < len(t.order); {
		w := t.w[t.order[i]]
		r := coldRun{class: 2, small: min(fewest(w, small), 4), tiny: math.Inf(1)}
		floor := 0.0 // experts down to this load, exclusive, are like w
		if r.small == 1 {
			r.class = 3
		} else {
			floor = (r.small - 1) * small
		}
		if two {
			r.tiny = min(fewest(w, tiny), 6)
			if r.tiny == 1 {
				r.class = 4
			} else {
				floor = max(floor, (r.tiny-1)*tiny)
			}
		}
		end := len(t.order)
		if floor > 0 {
			lo, hi := i+1, end
			for lo < hi {
				if mid := (lo + hi) / 2; t.w[t.order[mid]] > floor {
					lo = mid + 1
				} else {
					hi = mid
				}
			}
			end = lo
		}
		r.n = float64(end - i)
		if r.class == last.class && r.small == last.small && r.tiny == last.tiny {
			t.cold[len(t.cold)-1].n += r.n
		} else {
			t.cold = append(t.cold, r)
			last = r
		}
		i = end
	}
}

// fewest is the least n with w/n ≤ x, up to rounding; +Inf if there is none.
func fewest(w, x float64) float64 {
	if w <= x {
		return 1
	}
	if x <= 0 {
		return math.Inf(1)
	}
	// A little less than a whole number is one: a copy fewer only costs less.
	return max(math.Ceil(w/x*(1-1e-12)), 1)
}

// fewestBelow is the least n with w/n < x.
func fewestBelow(w, x float64) float64 {
	return math.Floor(w/x) + 1
}

// price is what the cheapest copies cost beyond lambda·slots.
func (t *threshold) price(c certificate) float64 {
	up := t.each - 1
	h := [5]float64{c.lambda + float64((1+c.mu)*up), c.lambda + up, c.lambda, c.lambda - 1, c.lambda - 1 - c.mu}
	sum := 0.0
	for i := range t.cold {
		r := &t.cold[i]
		x := min(h[r.class], float64(r.small*h[3]))
		if r.class < 4 && !math.IsInf(r.tiny, 1) {
			x = min(x, float64(r.tiny*h[4]))
		}
		sum += float64(r.n * x)
	}
	for i := range t.hot {
		k := &t.hot[i]
		x := min(float64(k[0]*h[0]), float64(k[1]*h[1]), float64(k[2]*h[2]))
		for j := 3; j < 5; j++ {
			if !math.IsInf(k[j], 1) {
				x = min(x, float64(k[j]*h[j]))
			}
		}
		sum += x
	}
	right := float64(c.lambda * t.slots)
	return sum - right - float64(1e-9*right) // a margin far above rounding
}
