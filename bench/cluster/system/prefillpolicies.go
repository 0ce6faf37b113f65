package system

import (
	"cmp"
	"slices"
)

// prompt is one in a queue.
type prompt struct {
	id, done, left int64 // tokens cached or computed, and to compute
}

// pairs is the query-key pairs of n new tokens after p.
func pairs(n, p int64) int64 { return n*p + n*(n+1)/2 }

// queueFormer places every prompt as it comes, by turns or where the fewest new
// tokens wait, and each rank computes its own in order.
type queueFormer struct {
	PrefillConfig
	least   bool
	next    int
	queues  [][]prompt
	waiting []int64 // new tokens
}

func newQueueFormer(c PrefillConfig, least bool) *queueFormer {
	return &queueFormer{PrefillConfig: c, least: least, queues: make([][]prompt, c.Ranks), waiting: make([]int64, c.Ranks)}
}

func (f *queueFormer) Enqueue(id, tokens, cached int64) {
	r := f.next
	if f.least {
		for i, w := range f.waiting {
			if w < f.waiting[r] {
				r = i
			}
		}
	}
	f.next = (f.next + 1) % f.Ranks
	f.queues[r] = append(f.queues[r], prompt{id, cached, tokens - cached})
	f.waiting[r] += tokens - cached
}

func (f *queueFormer) Step(dst []Chunk) []Chunk {
	for r, q := range f.queues {
		room, i := f.MaxTokens, 0
		for i < len(q) && room > 0 {
			p := &q[i]
			n := min(room, p.left)
			room -= n
			p.done, p.left = p.done+n, p.left-n
			f.waiting[r] -= n
			dst = append(dst, Chunk{p.id, r, n, p.left == 0})
			if p.left > 0 {
				break
			}
			i++
		}
		f.queues[r] = slices.Delete(q, 0, i)
	}
	return dst
}

// evenFormer forms the steps of all ranks jointly: as many tokens as wait for
// each rank, and no more query-key pairs than go with them on average. A dense
// prompt is cut into smaller chunks, and lighter ones fill the tokens beside it.
type evenFormer struct {
	PrefillConfig
	queue   []prompt   // not started, in order of arrival
	started [][]prompt // by rank
	tokens  int64      // waiting or unfinished
	pairs   int64
	used    []rankUse
	taken   []prompt
}

type rankUse struct{ tokens, pairs int64 }

func newEvenFormer(c PrefillConfig) *evenFormer {
	return &evenFormer{PrefillConfig: c, started: make([][]prompt, c.Ranks), used: make([]rankUse, c.Ranks)}
}

func (f *evenFormer) Enqueue(id, tokens, cached int64) {
	f.queue = append(f.queue, prompt{id, cached, tokens - cached})
	f.tokens += tokens - cached
	f.pairs += pairs(tokens-cached, cached)
}

// cut is the most of n tokens after p that have at most so many pairs.
func cut(n, p, most int64) int64 {
	if pairs(n, p) <= most {
		return n
	}
	low, high := int64(0), n
	for low+1 < high {
		if mid := (low + high) / 2; pairs(mid, p) <= most {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

func (f *evenFormer) Step(dst []Chunk) []Chunk {
	const least = 256 // tokens of a chunk, else a dense prompt would never end
	if f.tokens == 0 {
		return dst
	}
	room := min(f.MaxTokens, max((f.tokens+int64(f.Ranks)-1)/int64(f.Ranks), 4096))
	density := float64(f.pairs) / float64(f.tokens)
	cap := int64(density * float64(room))
	clear(f.used)
	put := func(r int, p prompt, n int64) {
		w := pairs(n, p.done)
		f.used[r].tokens += n
		f.used[r].pairs += w
		f.tokens, f.pairs = f.tokens-n, f.pairs-w
		p.done, p.left = p.done+n, p.left-n
		dst = append(dst, Chunk{p.id, r, n, p.left == 0})
		if p.left > 0 {
			f.started[r] = append(f.started[r], p)
		}
	}
	for r, q := range f.started {
		f.taken = append(f.taken[:0], q...)
		f.started[r] = q[:0]
		for i, p := range f.taken {
			u := &f.used[r]
			n := cut(min(p.left, room-u.tokens), p.done, cap-u.pairs)
			if i == 0 {
				n = max(n, min(least, p.left))
			}
			if n <= 0 {
				f.started[r] = append(f.started[r], p)
				continue
			}
			put(r, p, n)
		}
	}
	// From the queue: what fills the ranks' tokens, in order of arrival; of it, the
	// densest first.
	free := int64(0)
	for _, u := range f.used {
		free += max(0, room-u.tokens)
	}
	n := 0
	for n < len(f.queue) && free > 0 {
		free -= f.queue[n].left
		n++
	}
	batch := f.queue[:n]
	slices.SortStableFunc(batch, func(a, b prompt) int { return cmp.Compare(pairs(b.left, b.done), pairs(a.left, a.done)) })
	f.taken = f.taken[:0]
	for _, p := range batch {
		w := pairs(p.left, p.done)
		best, cost := -1, 0.0
		for r, u := range f.used {
			if u.tokens >= room || u.pairs >= cap && cap > 0 {
				continue
			}
			c := f.Token*float64(u.tokens+min(p.left, room-u.tokens)) + f.Pair*float64(u.pairs+w) + f.Pair*float64(len(f.started[r]))*float64(cap)
			if best < 0 || c < cost {
				best, cost = r, c
			}
		}
		if best < 0 {
			f.taken = append(f.taken, p)
			continue
		}
		u := f.used[best]
		put(best, p, max(cut(min(p.left, room-u.tokens), p.done, cap-u.pairs), min(least, p.left)))
	}
	m := copy(f.queue[n-len(f.taken):n], f.taken)
	f.queue = slices.Delete(f.queue, 0, n-m)
	return dst
}
