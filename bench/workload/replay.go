package workload

import (
	"math"
)

// Replay is a trace at any rate, for ever. A trace is never played faster than it
// was recorded: as many copies of it run side by side as the rate needs, each
// shifted against the others, all slowed to the rate exactly. A copy that ends
// starts again. Each round of each copy is a copy of its own, so that a prompt is not
// found because the trace was played before.
type Replay struct {
	requests []Request
	slow     float64 // seconds a second of the trace
	span     float64 // of one round, in seconds of the trace
	copies   []replayCopy
}

// replayCopy is one copy's next request; the copies are a heap by when that comes.
type replayCopy struct {
	at   float64 // seconds of the trace since the replay began
	next int
	name int64 // which round of which copy: what its prompts are told apart by
	copy int
}

// maxReplayCopies bounds the copies; beyond it a trace is played faster after all.
const maxReplayCopies = 1 << 16

// span is how long a trace lasts, and its last gap; one whose requests all come
// at one time says nothing of when they come: they are taken for one a second.
func span(requests []Request) (seconds float64, spread bool) {
	n := len(requests)
	if last := requests[n-1].Arrival; last > 0 {
		return last * (1 + 1/float64(max(n-1, 1))), false
	}
	return float64(n), true
}

// NewReplay returns a trace's requests, which are in order of arrival and at
// least one, at so many a second on average.
func NewReplay(requests []Request, perSecond float64) *Replay {
	r := &Replay{requests: requests}
	var spread bool
	r.span, spread = span(requests)
	if spread {
		r.requests = make([]Request, len(requests))
		for i, q := range requests {
			q.Arrival = float64(i)
			r.requests[i] = q
		}
	}
	own := float64(len(requests)) / r.span
	copies := int(min(math.Ceil(perSecond/own-1e-9), maxReplayCopies))
	copies = max(copies, 1)
	r.slow = float64(copies) * own / perSecond
	for i := range copies {
		// Copy i begins i/copies of a round into the trace.
		begin := float64(float64(i)*r.span) / float64(copies)
		next := 0
		for next < len(r.requests) && r.requests[next].Arrival < begin {
			next++
		}
		c := replayCopy{next: next, name: int64(i), copy: i}
		if next == len(r.requests) {
			c.next, c.name = 0, int64(i+copies)
			begin -= r.span
		}
		c.at = r.requests[c.next].Arrival - begin
		r.copies = append(r.copies, c)
	}
	for i := len(r.copies)/2 - 1; i >= 0; i-- {
		r.sink(i)
	}
	return r
}

// before orders copies by their next request; ties go to the lower copy.
func (c *replayCopy) before(d *replayCopy) bool {
	return c.at < d.at || c.at == d.at && c.copy < d.copy
}

// sink restores the heap below copy i.
func (r *Replay) sink(i int) {
	for {
		least := i
		for _, j := range [2]int{2*i + 1, 2*i + 2} {
			if j < len(r.copies) && r.copies[j].before(&r.copies[least]) {
				least = j
			}
		}
		if least == i {
			return
		}
		r.copies[i], r.copies[least] = r.copies[least], r.copies[i]
		i = least
	}
}

// Next returns the next request.
func (r *Replay) Next() (Request, bool) {
	c := &r.copies[0]
	q := r.requests[c.next]
	q.Arrival = float64(c.at * r.slow)
	q.Copy = c.name
	from := r.requests[c.next].Arrival
	if c.next++; c.next == len(r.requests) {
		c.next = 0
		c.name += int64(len(r.copies))
		from -= r.span
	}
	c.at += r.requests[c.next].Arrival - from
	r.sink(0)
	return q, true
}

// Warm plays what came before the first request, up to a round of the trace and so
// many blocks, so that copies that begin in the middle find the prefixes of their
// own past. One copy alone begins at the begin, and has no past.
func (r *Replay) Warm(blocks int, use func(blocks []int64, copy int64)) {
	if len(r.copies) == 1 || r.requests[0].Blocks == nil {
		return
	}
	for blocks > 0 && r.copies[0].at < r.span {
		q, _ := r.Next()
		use(q.Blocks, q.Copy)
		blocks -= 1 + len(q.Blocks)
	}
	passed := r.copies[0].at
	for i := range r.copies {
		r.copies[i].at -= passed
	}
}

// Rate is how many requests a second a trace has.
func Rate(requests []Request) float64 {
	seconds, _ := span(requests)
	return float64(len(requests)) / seconds
}
