package decode

import (
	"slices"

	"github.com/moelb/moelb/internal/ledger"
)

// prefixes are what requests share: on each rank the KV cache of a prefix is held
// once, as long as the longest of its requests there shares.
type prefixes struct {
	ids   ledger.Table
	slots []prefix
	free  []int32
}

type prefix struct {
	id       uint64
	requests int32
	copies   []prefixCopy // by rank, ascending
}

// prefixCopy is what one rank holds of a prefix.
type prefixCopy struct {
	rank     int32
	requests int32
	tokens   int64
}

// find returns the slot of a prefix for one request more.
func (p *prefixes) find(id uint64) int32 {
	i := p.ids.Find(id)
	if i < 0 {
		if n := len(p.free); n > 0 {
			i, p.free = p.free[n-1], p.free[:n-1]
		} else {
			i = int32(len(p.slots))
			p.slots = append(p.slots, prefix{})
		}
		p.slots[i].id = id
		p.ids.Add(id, i)
	}
	p.slots[i].requests++
	return i
}

// release is for one request less.
func (p *prefixes) release(i int32) {
	if i < 0 {
		return
	}
	if x := &p.slots[i]; x.requests > 1 {
		x.requests--
	} else {
		x.requests = 0
		p.ids.Remove(x.id)
		p.free = append(p.free, i)
	}
}

// on returns the place of rank g among the copies, and whether it holds one.
func (x *prefix) on(g int) (int, bool) {
	return slices.BinarySearchFunc(x.copies, int32(g), func(c prefixCopy, g int32) int { return int(c.rank - g) })
}

// hold counts a request in among those that share its prefix on rank g and returns
// how many tokens more the rank then holds of the prefix.
func (b *Balancer) hold(q *request, g int) int64 {
	if q.prefix < 0 {
		return 0
	}
	x := &b.prefixes.slots[q.prefix]
	at, ok := x.on(g)
	if !ok {
		x.copies = slices.Insert(x.copies, at, prefixCopy{rank: int32(g)})
	}
	c := &x.copies[at]
	more := max(q.shared-c.tokens, 0)
	c.requests++
	c.tokens += more
	return more
}

// drop counts a request out, which is no member of its rank any more, and returns
// how many tokens of the prefix the rank no longer holds.
func (b *Balancer) drop(q *request) int64 {
	if q.prefix < 0 {
		return 0
	}
	x := &b.prefixes.slots[q.prefix]
	at, _ := x.on(int(q.rank))
	c := &x.copies[at]
	held := c.tokens
	if c.requests--; c.requests == 0 {
		x.copies = slices.Delete(x.copies, at, at+1)
		return held
	}
	if q.shared < held {
		return 0
	}
	c.tokens = 0
	for _, i := range b.ranks[q.rank].members {
		if m := &b.requests[i]; m.prefix == q.prefix {
			c.tokens = max(c.tokens, m.shared)
		}
	}
	return held - c.tokens
}

// there is how many of a request's tokens rank g holds already.
func (b *Balancer) there(r *Request, g int) int64 {
	if r.Shared > 0 {
		if i := b.prefixes.ids.Find(r.Prefix); i >= 0 {
			x := &b.prefixes.slots[i]
			if at, ok := x.on(g); ok {
				return min(x.copies[at].tokens, r.Shared)
			}
		}
	}
	return 0
}
