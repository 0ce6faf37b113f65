package lockstep

import (
	"slices"

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
	return newPrefillRun(u).run(s, s)
}

// Route runs the unit until all requests are served, under a policy that places
// them. Each rank serves its own queue, first come, first served, in chunks of
// what the step's tokens leave. The policy decides at step boundaries and sees the
// ranks as they were at the last boundary that is stale seconds ago.
func (u *Prefill) Route(p baseline.PrefillPolicy, stale float64) (*PrefillResult, error) {
	r := newPrefillRun(u)
	f := NewRouted(p, prefill.Config{Ranks: u.Ranks, MaxTokens: u.MaxTokens})
	f.chunk = u.Chunk
	f.cached = func(id prefill.ID, g int) int64 { return r.cachedOn(int(id), g) }
	if stale > 0 {
		type snapshot struct {
			at    float64
			ranks []baseline.RankState
		}
		var past []snapshot
		f.seen = func(now []baseline.RankState) []baseline.RankState {
			past = append(past, snapshot{r.now, slices.Clone(now)})
			for len(past) > 1 && past[1].at <= r.now-stale {
				past = past[1:]
			}
			return past[0].ranks
		}
	}
	return r.run(f, nil)
}
