package decode

import (
	"cmp"
	"slices"
)

// batchWork is the scratch of joint placement, of look-ahead and of joint growth.
type batchWork struct {
	requests []Request
	order    []int32
}

// Batch places what arrived within a step jointly: the longest first, each knowing
// how many come with it. It appends one rank a request to dst, in their order; Full
// as for Add. Errors, with the request's index: as Add; then nothing is placed and
// dst is returned as it was. O(requests × log requests) beside what Add costs for
// each.
func (b *Balancer) Batch(dst []int, requests []Request) ([]int, error) {
	w, batch := &b.batch, int64(0)
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
		batch += int64(r.Width)
	}
	b.unmark(requests)
	slices.SortStableFunc(w.order, func(i, j int32) int { return cmp.Compare(w.requests[j].KV, w.requests[i].KV) })
	first := len(dst)
	dst = append(dst, make([]int, len(requests))...)
	placed := dst[first:]
	for n, i := range w.order {
		r := &w.requests[i]
		if placed[i] = b.take(b.rule(r.KV), r, batch); placed[i] >= 0 {
			b.imagine(b.put(placed[i], r), len(w.order)-1-n, batch-int64(r.Width))
		}
		batch -= int64(r.Width)
	}
	return dst, nil
}

// unmark takes out the ids of requests that are not in the ledger.
func (b *Balancer) unmark(requests []Request) {
	for i := range requests {
		b.ids.Remove(uint64(requests[i].ID))
	}
}
