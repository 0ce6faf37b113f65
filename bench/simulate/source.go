package simulate

import (
	"slices"

	"github.com/moelb/moelb/bench/workload"
)

// Replay is a trace, played over and over at another speed.
type Replay struct {
	Requests []workload.Request
	Speed    float64 // trace seconds a second
	next     int
	round    int
}

// blockStride keeps the blocks of one round of a trace apart from those of
// another, so that a prompt is not found because it came before.
const blockStride = 1 << 40

// Next returns the next request.
func (t *Replay) Next() (workload.Request, bool) {
	n := len(t.Requests)
	if n == 0 {
		return workload.Request{}, false
	}
	if t.next == n {
		t.next, t.round = 0, t.round+1
	}
	q := t.Requests[t.next]
	t.next++
	span := t.Requests[n-1].Arrival * (1 + 1/float64(max(n-1, 1)))
	q.Arrival = (q.Arrival + float64(float64(t.round)*span)) / t.Speed
	if q.Blocks != nil && t.round > 0 {
		q.Blocks = slices.Clone(q.Blocks)
		for i := range q.Blocks {
			q.Blocks[i] += int64(t.round) * blockStride
		}
	}
	return q, true
}

// Rate is how many requests a second a trace has at speed 1.
func (t *Replay) Rate() float64 {
	n := len(t.Requests)
	if n < 2 || t.Requests[n-1].Arrival <= 0 {
		return 1
	}
	return float64(n-1) / t.Requests[n-1].Arrival
}
