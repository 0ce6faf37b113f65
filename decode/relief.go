package decode

import (
	"cmp"
	"math"
	"slices"
)

// over is how many tokens rank g holds above its capacity.
func (b *Balancer) over(g int) int64 { return b.kv(g) - b.ranks[g].capacity }

// relieve moves requests off ranks that hold more than their capacity, whatever
// that costs in step time, with as few moves as it takes: of those that suffice
// alone the smallest, else the largest, each to the rank with room that is the
// least full.
func (b *Balancer) relieve(dst []Move, most int) []Move {
	end := len(dst) + most
	for g := range b.ranks {
		for len(dst) < end && b.over(g) > 0 {
			i, to := b.relief(g)
			if i < 0 {
				break
			}
			q := &b.requests[i]
			kv := q.kv(b.clock)
			dst = append(dst, Move{ID: q.id, From: g, To: to, KV: kv, Seconds: float64(kv) / b.cfg.Link})
			b.move(i, to)
		}
	}
	return dst
}

// relief returns the request to move off a rank that holds too much, and where to;
// -1 = none can be moved.
func (b *Balancer) relief(g int) (best int32, to int) {
	best, to = -1, -1
	excess, size := b.over(g), int64(0)
	for _, i := range b.ranks[g].members {
		q := &b.requests[i]
		own := q.kv(b.clock) - q.shared + b.freed(q)
		if q.waiting || own <= 0 || best >= 0 && !(own >= excess && (size < excess || own < size) || own < excess && own > size) {
			continue
		}
		if h := b.roomFor(i, g); h >= 0 {
			best, to, size = i, h, own
		}
	}
	return best, to
}

// freed is how many tokens of its prefix a rank would no longer hold without a
// request.
func (b *Balancer) freed(q *request) int64 {
	if q.prefix < 0 {
		return 0
	}
	x := &b.prefixes.slots[q.prefix]
	at, _ := x.on(int(q.rank))
	if x.copies[at].requests > 1 {
		return 0
	}
	return x.copies[at].tokens
}

// roomFor returns the rank that is least full of those that have room for what is
// on rank g now; -1 = none.
func (b *Balancer) roomFor(i int32, g int) int {
	q := &b.requests[i]
	r := Request{KV: q.kv(b.clock), Shared: q.shared}
	if q.prefix >= 0 {
		r.Prefix = b.prefixes.slots[q.prefix].id
	}
	best, full := -1, math.Inf(1)
	for h := range b.ranks {
		k := &b.ranks[h]
		kv := b.kv(h) + r.KV - b.there(&r, h)
		if h == g || !k.open() || kv > k.capacity || b.cfg.MaxRequests > 0 && k.width+int64(q.width) > int64(b.cfg.MaxRequests) || !b.may(i, h) {
			continue
		}
		share := float64(kv) / float64(k.capacity)
		if k.capacity == unlimited {
			share = float64(kv) / (1 << 60) // any of those before any other
		}
		if share < full {
			best, full = h, share
		}
	}
	return best
}

// Overfull appends to dst whom to preempt on ranks that hold more than their
// capacity where no move that Rebalance could make helps: enough, nobody whom the
// others make needless, and about the least KV cache to be computed again. Nothing
// changes: the caller says Evict. O(requests of these ranks, times ranks).
func (b *Balancer) Overfull(dst []ID) []ID {
	for g := range b.ranks {
		if excess := b.over(g); excess > 0 && len(b.ranks[g].members) > 0 {
			if i, _ := b.relief(g); i < 0 {
				dst = b.preempt(dst, g, excess)
			}
		}
	}
	return dst
}

// preempt names whom to preempt on one rank: the smallest that suffices alone, or
// the smallest together less those that turn out needless, whichever loses less.
func (b *Balancer) preempt(dst []ID, g int, excess int64) []ID {
	order, gone := slices.Clone(b.ranks[g].members), map[int32]bool{}
	own := func(i int32) int64 { q := &b.requests[i]; return q.kv(b.clock) - q.shared }
	slices.SortFunc(order, func(i, j int32) int {
		return cmp.Or(cmp.Compare(own(i), own(j)), cmp.Compare(b.requests[i].id, b.requests[j].id))
	})
	// put takes a request off, or back, and returns what the rank then holds less, or more.
	put := func(i int32, off bool) int64 {
		was := b.sharedBut(g, b.requests[i].prefix, gone)
		gone[i] = off
		is := b.sharedBut(g, b.requests[i].prefix, gone)
		return own(i) + max(was, is) - min(was, is)
	}
	sum, n := int64(0), 0
	for ; n < len(order) && sum < excess; n++ {
		sum += put(order[n], true)
	}
	for _, i := range order[n:] {
		clear(gone)
		if x := put(i, true); x >= excess && x < sum {
			return append(dst, b.requests[i].id)
		}
	}
	clear(gone)
	named := order[:n]
	for _, i := range named {
		gone[i] = true
	}
	for at := n - 1; at >= 0; at-- {
		i := named[at]
		x := put(i, false)
		if sum-x < excess {
			put(i, true)
			continue
		}
		sum -= x
		named = slices.Delete(named, at, at+1)
		if b.requests[i].prefix >= 0 {
			at = len(named) // who shares it may be needless now
		}
	}
	for _, i := range named {
		dst = append(dst, b.requests[i].id)
	}
	return dst
}

// sharedBut is the KV cache of a prefix on a rank without some of its requests; < 0 =
// no prefix.
func (b *Balancer) sharedBut(g int, prefix int32, gone map[int32]bool) (most int64) {
	if prefix < 0 {
		return 0
	}
	for _, i := range b.ranks[g].members {
		if q := &b.requests[i]; q.prefix == prefix && !gone[i] {
			most = max(most, q.shared)
		}
	}
	return most
}
