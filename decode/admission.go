package decode

import (
	"cmp"
	"math"
	"slices"
)

// life is what is expected of one request: its KV use, and for how many steps it
// grows by its width.
type life struct {
	kv, width, steps int64
}

// fits reports whether rank g is expected to hold a request, which brings so many
// tokens, and all that is there to their ends within its KV capacity. An idle rank
// takes whatever it has room for now: nowhere will there be more, and the output is
// a guess.
func (b *Balancer) fits(g int, r *Request, kv int64) bool {
	k := &b.ranks[g]
	if k.capacity == unlimited {
		return true
	}
	output := r.Output
	if output == 0 {
		output = b.expected(r.Generated)
	}
	if k.width == 0 && r.Output == 0 {
		return b.kv(g)+kv+leastOut <= k.capacity
	}
	room := k.capacity - b.kv(g) - kv - output
	if room < 0 && len(k.members) == 0 {
		return false
	}
	if room-k.outputs >= b.spread(len(k.members)+1) {
		return true // even if nothing ended before all were at their ends
	}
	more := life{kv, int64(r.Width), steps(output, int64(r.Width))}
	return b.expectedPeak(g, more, r.Output == 0) <= k.capacity
}

// refusal is the least request that no rank was expected to hold, as of a clock
// and while no rank has got more room. What needs as much is refused without a look
// at every rank: a full unit is asked often.
type refusal struct {
	Request
	clock int64
	known bool
}

// hopeless reports whether a request asks for as much as one that was refused.
func (b *Balancer) hopeless(r *Request) bool {
	n := &b.refused
	return n.known && n.clock == b.clock && r.KV >= n.KV && r.Output >= n.Output && (r.Output == 0) == (n.Output == 0) && r.Width == n.Width && r.Generated == n.Generated
}

// refuse notes that no rank is expected to hold a request.
func (b *Balancer) refuse(r *Request) { b.refused = refusal{*r, b.clock, true} }

// room says that some rank may have got more.
func (b *Balancer) room() { b.refused.known = false }

func steps(tokens, width int64) int64 { return (tokens + width - 1) / width }

// expectedPeak is the most KV use that rank g is expected to come to while what
// it runs, and one request more (guess = its output is one), comes to its end.
// O(n log n) for the n requests of the rank.
func (b *Balancer) expectedPeak(g int, more life, guess bool) int64 {
	k := &b.ranks[g]
	lives := b.batch.lives[:0]
	kv, width := b.kv(g), k.width
	guesses := 0
	if more.width > 0 {
		lives = append(lives, more)
		if guess {
			guesses++
		}
	}
	for _, i := range k.members {
		q := &b.requests[i]
		now := q.kv(b.clock) - q.shared
		left := b.left(q)
		if !q.told || q.output <= q.generated(b.clock) {
			guesses++
		}
		lives = append(lives, life{now, int64(q.width), steps(left, int64(q.width))})
		kv -= now
		width -= int64(q.width)
	}
	b.batch.lives = lives
	slices.SortFunc(lives, func(a, b life) int { return cmp.Compare(b.steps, a.steps) })
	// What the ledger does not know, from reports of other routers' requests.
	kv, width = max(kv, 0), max(width, 0)
	kv += width * b.expected(0)
	peak := kv
	width = 0
	for _, l := range lives {
		kv += l.kv
		width += l.width
		peak = max(peak, kv+width*l.steps)
	}
	return peak + b.spread(guesses)
}

// spread is how much more than expected n requests may generate whose outputs are
// guesses: twice the standard deviation, as if each ended at random.
func (b *Balancer) spread(n int) int64 {
	return int64(2 * math.Sqrt(float64(n)) * float64(b.expected(0)))
}
