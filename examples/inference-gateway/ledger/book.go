package ledger

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

// held is what one request holds.
type held struct {
	key   any
	unit  *unit
	rank  int
	at    int    // its place among what its seat holds
	id    uint64 // its name in the balancer
	since time.Time
	sent  bool
	probe bool // it is what tries an endpoint that has failed

	place    int          // in its queue
	stamp    time.Time    // by which it stands there
	heard    atomic.Int64 // when its stream last said something, in nanoseconds
	answered atomic.Bool  // its endpoint has begun to answer
}

// last is when something was last heard of a request.
func (h *held) last() time.Time {
	if n := h.heard.Load(); n > h.since.UnixNano() {
		return time.Unix(0, n)
	}
	return h.since
}

// book keeps what requests hold, those that were placed and not yet sent apart
// from the others.
type book struct {
	at           sync.Map // of *held by key: what is heard of streams takes no lock
	placed, sent queue
}

func (b *book) len() int { return len(b.placed) + len(b.sent) }

// find returns what a request holds; nil = nothing.
func (b *book) find(key any) *held {
	if h, ok := b.at.Load(key); ok {
		return h.(*held)
	}
	return nil
}

func (b *book) add(h *held) {
	h.stamp = h.since
	heap.Push(&b.placed, h)
	b.at.Store(h.key, h)
}

// send notes that a request is on its way.
func (b *book) send(key any, now time.Time) {
	if h := b.find(key); h != nil && !h.sent {
		heap.Remove(&b.placed, h.place)
		h.sent, h.since, h.stamp = true, now, now
		heap.Push(&b.sent, h)
	}
}

// take forgets a request and returns what it held; nil = nothing.
func (b *book) take(key any) *held {
	found, ok := b.at.LoadAndDelete(key)
	if !ok {
		return nil
	}
	h := found.(*held)
	if h.sent {
		heap.Remove(&b.sent, h.place)
	} else {
		heap.Remove(&b.placed, h.place)
	}
	return h
}

// unsentAge is how long a request may take from its pick until it is sent. Nothing
// waits between the two, so what takes longer was given up.
const unsentAge = 10 * time.Second

// overdue returns a request of which nothing was heard for too long, or, where there
// are more than may be, for longest; nil = none.
func (b *book) overdue(now time.Time, most time.Duration, room int) *held {
	if len(b.placed) > 0 && now.Sub(b.placed[0].stamp) > unsentAge {
		return b.placed[0]
	}
	for len(b.sent) > 0 {
		h := b.sent[0]
		if now.Sub(h.stamp) <= most && b.len() <= room {
			break
		}
		last := h.last()
		if !last.After(h.stamp) {
			return h
		}
		h.stamp = last
		heap.Fix(&b.sent, 0)
	}
	return nil
}

// queue has what was stamped first in front. A stamp is brought up to date when it
// comes to be in front: that something is heard of a stream moves nothing.
type queue []*held

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].stamp.Before(q[j].stamp) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push is heap.Interface's.
func (q *queue) Push(x any) {
	h := x.(*held)
	h.place = len(*q)
	*q = append(*q, h)
}

// Pop is heap.Interface's.
func (q *queue) Pop() any {
	old := *q
	h := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return h
}
