package decode

import (
	"cmp"
	"math"
	"slices"
)

// batchWork is the scratch of joint placement and of look-ahead.
type batchWork struct {
	requests []Request
	order    []int32
	kv       []int64
	value    []float64
	lives    []life
}

// Joint placement trades holes below the level only as far as they are of use.
const (
	deepest   = 12   // mean requests: a deeper hole is worth no more
	holeWorth = 0.03 // of a hole of one mean request, in the cost of one beyond the level
	rounds    = 5    // of exchanges
	exchanged = 512  // requests of a batch, beyond which none are exchanged
)

// Batch places what arrived within a step jointly: the longest first, and then,
// as long as it helps, two of them change places. It appends one rank a request to
// dst, in their order; Full as for Add. Errors, with the request's index: as Add;
// then nothing is placed and dst is returned as it was.
func (b *Balancer) Batch(dst []int, requests []Request) ([]int, error) {
	w := &b.batch
	w.requests, w.order = w.requests[:0], w.order[:0]
	for i, r := range requests {
		r, err := b.check(r, i)
		if err == nil {
			err = b.possible(&r, i)
		}
		if err != nil {
			b.unmark(requests[:i])
			return dst, err
		}
		b.ids.Add(uint64(r.ID), 0) // until all are known to be good
		w.requests = append(w.requests, r)
		w.order = append(w.order, int32(i))
	}
	b.unmark(requests)
	slices.SortStableFunc(w.order, func(i, j int32) int { return cmp.Compare(w.requests[j].KV, w.requests[i].KV) })
	first := len(dst)
	dst = append(dst, make([]int, len(requests))...)
	placed := dst[first:]
	most, _ := b.peak()
	for _, i := range w.order {
		r := &w.requests[i]
		if placed[i] = b.place(&jointly, r); placed[i] >= 0 {
			b.put(placed[i], r)
		}
	}
	if len(requests) > 1 && len(requests) <= exchanged && b.active > 0 && !b.unlike && !b.uneven(most) {
		b.exchange(placed, most)
	}
	return dst, nil
}

// unmark takes out the ids of requests that are not in the ledger.
func (b *Balancer) unmark(requests []Request) {
	for i := range requests {
		b.ids.Remove(uint64(requests[i].ID))
	}
}

// exchange lets requests of a batch change places where that lowers the sum over
// their ranks of the cost beyond the level less the worth of the hole below it.
// A hole's worth grows faster than its depth, so that holes come to differ. most
// is the maximum that the unit had to pay for before the batch came.
func (b *Balancer) exchange(placed []int, most int64) {
	w := &b.batch
	now := b.level(&jointly, most, 0, 0)
	if n := len(b.ranks); cap(w.kv) < n {
		w.kv, w.value = make([]int64, n), make([]float64, n)
	} else {
		w.kv, w.value = w.kv[:n], w.value[:n]
	}
	worth := func(kv int64) float64 {
		hole := (now.kv - float64(kv)) / now.mean
		if hole < 0 {
			return -hole * (1 + float64(now.bend*-hole))
		}
		hole = min(hole, deepest)
		return -holeWorth * hole * math.Sqrt(hole)
	}
	for _, p := range placed {
		if p >= 0 {
			w.kv[p] = b.kv(p)
			w.value[p] = worth(w.kv[p])
		}
	}
	for range rounds {
		better := false
		for x := 1; x < len(w.order); x++ {
			i := w.order[x]
			for _, j := range w.order[:x] {
				g, h := placed[i], placed[j]
				more := w.requests[j].KV - w.requests[i].KV // on g; j is the longer
				if g == h || g < 0 || h < 0 || more == 0 || w.requests[i].Width != w.requests[j].Width || w.requests[i].fixed() || w.requests[j].fixed() {
					continue
				}
				vg, vh := worth(w.kv[g]+more), worth(w.kv[h]-more)
				if !(vg+vh < w.value[g]+w.value[h]-1e-9) || !b.roomy(g, w.kv[g]+more, w.requests[j]) || !b.roomy(h, w.kv[h]-more, w.requests[i]) {
					continue
				}
				w.kv[g], w.kv[h], w.value[g], w.value[h] = w.kv[g]+more, w.kv[h]-more, vg, vh
				b.swap(w.requests[i].ID, w.requests[j].ID)
				placed[i], placed[j] = h, g
				better = true
			}
		}
		if !better {
			return
		}
	}
}

// fixed reports whether a request is not to be exchanged for another.
func (r *Request) fixed() bool { return r.Among != nil || r.Shared > 0 }

// roomy reports whether rank g surely has room for kv tokens and all that its
// requests, and r in exchange for another, will generate.
func (b *Balancer) roomy(g int, kv int64, r Request) bool {
	k := &b.ranks[g]
	if k.capacity == unlimited {
		return true
	}
	output := r.Output
	if output == 0 {
		output = b.expected(r.Generated)
	}
	return kv+k.outputs+output+b.spread(len(k.members)) <= k.capacity
}

// swap exchanges the ranks of two requests.
func (b *Balancer) swap(x, y ID) {
	i, j := b.ids.Find(uint64(x)), b.ids.Find(uint64(y))
	g, h := b.requests[i].rank, b.requests[j].rank
	b.move(i, int(h))
	b.move(j, int(g))
}
