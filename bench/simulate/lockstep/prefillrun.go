package lockstep

import (
	"fmt"
	"slices"

	"github.com/moelb/moelb/prefill"
)

// prefillRun is a unit at a step boundary.
type prefillRun struct {
	unit *Prefill
	now  float64
	next int // request that arrives next
	left int // requests not served
	busy bool
	told bool // the scheduler hears what the cache gains and loses

	ranks    PrefillUnit
	requests []Request
	kv       []int64 // of unfinished prompts, each counted in full, by rank

	// What is cached, and who holds which block: global has one map.
	cached  []map[int64]bool
	fifo    [][]int64
	first   map[int64]int // the first request that arrived with a block
	holders map[int64][]int32
	waiting []bool
	served  []bool

	out                    PrefillResult
	mostTokens, meanTokens float64
	mostPairs, meanPairs   float64
}

func newPrefillRun(u *Prefill) *prefillRun {
	n := len(u.Requests)
	r := &prefillRun{
		unit: u, left: n, requests: make([]Request, n), kv: make([]int64, u.Ranks),
		first: map[int64]int{}, holders: map[int64][]int32{}, waiting: make([]bool, n), served: make([]bool, n),
	}
	r.ranks = NewPrefillUnit(u.Ranks, &r.requests)
	for i, q := range u.Requests {
		r.requests[i] = Request{Input: int32(q.Input), Rank: -1}
	}
	r.out.TTFT = make([]float64, n)
	caches := [...]int{NoCache: 0, GlobalCache: 1, LocalCache: u.Ranks}[u.Cache]
	r.cached, r.fifo = make([]map[int64]bool, caches), make([][]int64, caches)
	for g := range r.cached {
		r.cached[g] = map[int64]bool{}
	}
	if caches > 0 {
		for i := range u.Requests {
			for _, x := range u.Requests[i].Blocks {
				r.holders[x] = append(r.holders[x], int32(i))
			}
		}
	}
	return r
}

// run serves all requests by the steps of a former. cache is told of what is cached;
// nil = nobody is, nor of what requests share.
func (r *prefillRun) run(f prefill.Former, cache PrefillFormer) (*PrefillResult, error) {
	r.ranks.Former, r.told = f, cache != nil
	for r.left > 0 {
		first, last := r.arrivals()
		for i := first; i < last; i++ {
			q := r.request(i)
			if cache == nil {
				q.Leader, q.Shared = 0, 0
			}
			if err := f.Enqueue(q); err != nil {
				return nil, err
			}
		}
		if err := r.ranks.Begin(r.start); err != nil {
			return nil, err
		}
		if r.busy = len(r.ranks.Chunks) > 0; !r.busy && last == len(r.requests) {
			return nil, fmt.Errorf("an empty step with %d requests left", r.left)
		}
		changes, err := r.end()
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			if err := cache.SetCached(prefill.ID(c.request), c.rank, c.cached); err != nil {
				return nil, err
			}
		}
	}
	return r.result()
}

// arrivals returns the range of requests that have arrived; an idle unit waits for
// the next.
func (r *prefillRun) arrivals() (first, last int) {
	trace := r.unit.Requests
	first = r.next
	if !r.busy && first < len(trace) {
		r.now = max(r.now, trace[first].Arrival)
	}
	for r.next < len(trace) && trace[r.next].Arrival <= r.now {
		r.next++
	}
	return first, r.next
}

// hits is the prefix of a request that a cache holds.
func (r *prefillRun) hits(i, cache int) int64 {
	q := &r.unit.Requests[i]
	k := 0
	for k < len(q.Blocks) && r.cached[cache][q.Blocks[k]] {
		k++
	}
	return hit(q, k)
}

// cachedOn is the prefix of a request that is cached for rank g.
func (r *prefillRun) cachedOn(i, g int) int64 {
	switch r.unit.Cache {
	case GlobalCache:
		return r.hits(i, 0)
	case LocalCache:
		return r.hits(i, g)
	}
	return 0
}

// request is a request as it arrives.
func (r *prefillRun) request(i int) prefill.Request {
	q := &r.unit.Requests[i]
	out := prefill.Request{ID: prefill.ID(i), Tokens: int64(q.Input)}
	r.waiting[i] = true
	switch r.unit.Cache {
	case NoCache:
		return out
	case GlobalCache:
		out.Cached = r.hits(i, 0)
	case LocalCache:
		out.CachedAt = make([]int64, r.unit.Ranks)
		for g := range out.CachedAt {
			out.CachedAt[g] = r.hits(i, g)
		}
	}
	for k, x := range q.Blocks {
		holder, ok := r.first[x]
		if !ok {
			break
		}
		if !r.served[holder] {
			out.Leader, out.Shared = prefill.ID(holder), hit(q, k+1)
		} else {
			out.Shared = 0
		}
	}
	for _, x := range q.Blocks {
		if _, ok := r.first[x]; !ok {
			r.first[x] = i
		}
	}
	return out
}

// start is when a rank turns to a request.
func (r *prefillRun) start(id int32, g int) {
	q := &r.requests[id]
	q.Done = int32(r.cachedOn(int(id), g))
	r.waiting[id] = false
	r.kv[g] += int64(q.Input)
	r.out.PeakKV = max(r.out.PeakKV, r.kv[g])
}

// change is a change of what a waiting request finds cached; rank -1 = on all.
type change struct {
	request, rank int
	cached        int64
}

// end ends the step and returns what it changes for requests that wait.
func (r *prefillRun) end() (changes []change, err error) {
	if !r.busy {
		return nil, nil
	}
	c, ranks := &r.unit.Cost, float64(r.unit.Ranks)
	var mostTokens, tokens int64
	var mostPairs, pairs float64
	for _, l := range r.ranks.Loads {
		p := float64(l.Pairs)
		if c.Prefix > 0 {
			p += c.Prefix / c.Pair * float64(l.Prefix)
		}
		mostTokens, tokens = max(mostTokens, l.Tokens), tokens+l.Tokens
		mostPairs, pairs = max(mostPairs, p), pairs+p
	}
	if mostTokens > r.unit.MaxTokens {
		return nil, fmt.Errorf("a rank computes %d tokens in one step", mostTokens)
	}
	r.now += c.Step + c.Pair*mostPairs + c.Token*float64(mostTokens)
	r.out.Steps++
	r.out.Computed += tokens
	r.mostTokens, r.meanTokens = r.mostTokens+float64(mostTokens), r.meanTokens+float64(tokens)/ranks
	r.mostPairs, r.meanPairs = r.mostPairs+mostPairs, r.meanPairs+pairs/ranks
	r.ranks.End(func(c prefill.Chunk, _ int64) {
		if !c.Last {
			return
		}
		i := int(c.ID)
		r.out.TTFT[i] = r.now - r.unit.Requests[i].Arrival
		r.served[i] = true
		r.kv[c.Rank] -= int64(r.requests[i].Input)
		r.left--
		if r.unit.Cache != NoCache {
			changes = r.store(changes, i, c.Rank)
		}
	})
	return changes, nil
}

// store caches a request's blocks, of rank g, and appends what that changes.
func (r *prefillRun) store(changes []change, i, g int) []change {
	cache, rank := 0, -1
	if r.unit.Cache == LocalCache {
		cache, rank = g, g
	}
	has := r.cached[cache]
	var touched []int32
	for _, x := range r.unit.Requests[i].Blocks {
		if !has[x] {
			has[x] = true
			if r.told {
				touched = append(touched, r.holders[x]...)
			}
			r.fifo[cache] = append(r.fifo[cache], x)
		}
	}
	for rank >= 0 && len(r.fifo[cache]) > localBlocks {
		x := r.fifo[cache][0]
		r.fifo[cache] = r.fifo[cache][1:]
		delete(has, x)
		if r.told {
			touched = append(touched, r.holders[x]...)
		}
	}
	slices.Sort(touched)
	for _, h := range slices.Compact(touched) {
		if r.waiting[h] {
			changes = append(changes, change{int(h), rank, r.hits(int(h), cache)})
		}
	}
	return changes
}

func (r *prefillRun) result() (*PrefillResult, error) {
	for g, kv := range r.kv {
		if kv != 0 {
			return nil, fmt.Errorf("rank %d keeps %d tokens of KV of prompts that have ended", g, kv)
		}
	}
	r.out.Fraction = r.unit.Ideal() / r.now
	r.out.Tokens, r.out.Pairs = r.mostTokens/r.meanTokens, r.mostPairs/r.meanPairs
	return &r.out, nil
}

// Quantile returns the q-quantile of some times, 0 <= q <= 1.
func Quantile(times []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

var _ PrefillFormer = (*prefill.Balancer)(nil)
