package lockstep

import (
	"fmt"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/prefill"
)

// Cache says which prefixes need no work.
type Cache int

const (
	// NoCache: every prompt is computed in full.
	NoCache Cache = iota
	// GlobalCache keeps every block for all ranks, from the step on in which its
	// request ends.
	GlobalCache
	// LocalCache keeps each rank's last blocks for that rank: first in, first out.
	LocalCache
)

// The blocks that are cached, and how many of them LocalCache keeps a rank:
// half a million tokens.
const (
	blockTokens = 512
	localBlocks = 1000
)

// Prefill is a prefill unit under a load. A request that arrives during a step is
// seen at its end. A chunk stays on the rank that started its request.
type Prefill struct {
	Ranks     int
	MaxTokens int64 // new tokens a rank and step
	Chunk     int64 // new tokens of a prompt a step where ranks have queues of their own; 0 = no limit
	Cost      prefill.Cost
	Cache     Cache
	Requests  []workload.Request // in order of arrival
}

// PrefillResult is how a unit did.
type PrefillResult struct {
	Fraction float64   // ideal seconds / seconds from the first arrival to the end of the last step
	TTFT     []float64 // seconds from arrival to the end of the prefill, by request
	Steps    int
	Computed int64   // tokens
	Tokens   float64 // max/mean over the ranks, mean over the steps weighed by the mean
	Pairs    float64
	PeakKV   int64 // most tokens of unfinished prompts on a rank, each counted in full
}

// Scaled returns the unit with its arrivals spaced so that it is offered load
// times what it could do at best.
func (u Prefill) Scaled(load float64) Prefill {
	n := len(u.Requests)
	out := make([]workload.Request, n)
	copy(out, u.Requests)
	factor := u.Ideal() / load / out[n-1].Arrival
	for i := range out {
		out[i].Arrival *= factor
	}
	u.Requests = out
	return u
}

// Ideal is how many seconds the unit takes if every step is full and even, and
// every prefix of an earlier request is cached. Re-expansion of prefixes is
// counted as for full chunks.
func (u *Prefill) Ideal() float64 {
	seen := map[int64]bool{}
	sum := 0.0
	for i := range u.Requests {
		q := &u.Requests[i]
		k := 0
		if u.Cache != NoCache {
			for k < len(q.Blocks) && seen[q.Blocks[k]] {
				k++
			}
			for _, x := range q.Blocks[k:] {
				seen[x] = true
			}
		}
		p := hit(q, k)
		n := int64(q.Input) - p
		sum += u.Cost.Pair*float64(prefill.WorkOf(n, p).Pairs) + u.Cost.Token*float64(n) + u.Cost.Step*float64(n)/float64(u.MaxTokens)
		for ; n > 0; n -= u.MaxTokens {
			sum += u.Cost.Prefix * float64(p)
			p += u.MaxTokens
		}
	}
	return sum / float64(u.Ranks)
}

// hit is the prefix that so many cached blocks spare a prompt; its last token is
// always computed.
func hit(q *workload.Request, blocks int) int64 {
	return int64(max(0, min(blocks*blockTokens, q.Input-1)))
}

// PrefillFormer forms steps from its queue and can be told what is cached.
type PrefillFormer interface {
	prefill.Former
	SetCached(id prefill.ID, rank int, cached int64) error
}

// Form runs the unit until all requests are served, under a scheduler that forms
// the steps itself. It hears of every change of the cache, and which earlier
// request shares a prefix that is not cached yet.
func (u *Prefill) Form(s PrefillFormer) (*PrefillResult, error) {
	r := newPrefillRun(u)
	r.told = true
	var chunks []prefill.Chunk
	for r.left > 0 {
		first, last := r.arrivals()
		for i := first; i < last; i++ {
			if err := s.Enqueue(r.request(i)); err != nil {
				return nil, err
			}
		}
		chunks = s.Step(chunks[:0])
		if len(chunks) == 0 && last == len(u.Requests) {
			return nil, fmt.Errorf("an empty step with %d requests left", r.left)
		}
		for _, c := range chunks {
			if err := r.compute(int(c.ID), c.Rank, c.Tokens, c.Last); err != nil {
				return nil, err
			}
		}
		changes, err := r.end()
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			if err := s.SetCached(prefill.ID(c.request), c.rank, c.cached); err != nil {
				return nil, err
			}
		}
	}
	return r.result()
}

// Route runs the unit until all requests are served, under a policy that places
// them. Each rank serves its own queue, first come, first served, in chunks of
// what the step's tokens leave. The policy decides at step boundaries and sees the
// ranks as they were at the last boundary that is stale seconds ago.
func (u *Prefill) Route(p baseline.PrefillPolicy, stale float64) (*PrefillResult, error) {
	r := newPrefillRun(u)
	queues := make([][]int32, u.Ranks)
	type snapshot struct {
		at    float64
		ranks []baseline.RankState
	}
	var past []snapshot
	for r.left > 0 {
		first, last := r.arrivals()
		past = append(past, snapshot{r.now, r.states(queues)})
		for len(past) > 1 && past[1].at <= r.now-stale {
			past = past[1:]
		}
		if last > first {
			for g, k := range past[0].ranks {
				p.Observe(g, k)
			}
			err := r.route(p, first, last, func(i, g int) {
				queues[g] = append(queues[g], int32(i))
				r.pos[i] = r.cachedOn(i, g)
			})
			if err != nil {
				return nil, err
			}
		}
		for g, queue := range queues {
			room, left := u.MaxTokens, queue[:0]
			for k, i := range queue {
				if room == 0 {
					left = append(left, queue[k:]...)
					break
				}
				n := r.remaining(int(i), g)
				take := min(room, n)
				if u.Chunk > 0 {
					take = min(take, u.Chunk)
				}
				room -= take
				if err := r.compute(int(i), g, take, take == n); err != nil {
					return nil, err
				}
				if take < n {
					left = append(left, i)
				}
			}
			queues[g] = left
		}
		for _, i := range r.ended {
			if err := p.Done(prefill.ID(i)); err != nil {
				return nil, err
			}
		}
		if _, err := r.end(); err != nil {
			return nil, err
		}
	}
	return r.result()
}

// route asks the policy where the requests from first to last go.
func (r *prefillRun) route(p baseline.PrefillPolicy, first, last int, place func(i, rank int)) error {
	var rs []prefill.Request
	for i := first; i < last; i++ {
		q := r.request(i)
		q.Leader, q.Shared = 0, 0
		rs = append(rs, q)
	}
	if batch, ok := p.(baseline.PrefillBatch); ok {
		batch.AddBatch(rs, func(i, g int) { place(first+i, g) })
		return nil
	}
	for i := range rs {
		g, err := p.Add(rs[i])
		if err != nil {
			return err
		}
		place(first+i, g)
	}
	return nil
}

// states is what the ranks report.
func (r *prefillRun) states(queues [][]int32) []baseline.RankState {
	out := make([]baseline.RankState, len(queues))
	for g, queue := range queues {
		k := &out[g]
		for _, i := range queue {
			input := int64(r.unit.Requests[i].Input)
			k.Pending += input - r.pos[i]
			if r.rank[i] >= 0 {
				k.Running++
				k.KV += r.pos[i]
			} else {
				k.Waiting++
				k.WaitingTokens += input
			}
		}
	}
	return out
}
