package baseline

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/prefill"
)

// RankState is a rank as its engine reports it.
type RankState struct {
	Running, Waiting int   // requests started and not
	KV               int64 // tokens of the running requests, cached and computed
	WaitingTokens    int64 // tokens of the waiting requests, all of them
	Pending          int64 // tokens to compute, of running and waiting requests
}

// PrefillPolicy places prompts. Add updates the policy's own copy of the
// state; Observe replaces a rank's.
type PrefillPolicy interface {
	prefill.Assigner
	Observe(rank int, s RankState)
}

// PrefillBatch is implemented by policies that place all that has arrived at a
// step boundary together. They hand requests over in an order of their own.
type PrefillBatch interface {
	AddBatch(rs []prefill.Request, place func(i, rank int))
}

// Prefill is a policy that places prompts on arrival, and how old the state is
// that its home sees.
type Prefill struct {
	Name  string
	Stale float64 // seconds; 0 = every step
	New   func(ranks int) PrefillPolicy
}

// PrefillPolicies lists what systems run.
func PrefillPolicies() []Prefill {
	least := func(score func(l *rankLedger, g int, r *prefill.Request) [3]float64) func(int) PrefillPolicy {
		return func(ranks int) PrefillPolicy { return &argmin{rankLedger: newRankLedger(ranks), score: score} }
	}
	return []Prefill{
		{"round-robin", 0, func(n int) PrefillPolicy { return &turns{rankLedger: newRankLedger(n)} }},
		{"power-of-two", 0, func(n int) PrefillPolicy {
			return &twoRandom{newRankLedger(n), rand.New(rand.NewPCG(1, 2))}
		}},
		{"least-requests", 0, least(func(l *rankLedger, g int, _ *prefill.Request) [3]float64 { return [3]float64{l.b(g)} })},
		{"least-kv", .1, least(func(l *rankLedger, g int, _ *prefill.Request) [3]float64 {
			return [3]float64{float64(l.ranks[g].KV), -float64(g)}
		})},
		{"least-tokens", 0, least(func(l *rankLedger, g int, _ *prefill.Request) [3]float64 { return [3]float64{l.t(g), l.b(g)} })},
		{"sglang-total-requests", .02, least(func(l *rankLedger, g int, _ *prefill.Request) [3]float64 { return [3]float64{l.b(g)} })},
		{"sglang-total-tokens", .02, least(func(l *rankLedger, g int, _ *prefill.Request) [3]float64 { return [3]float64{l.t(g), l.b(g)} })},
		{"vllm-old", .1, least(func(l *rankLedger, g int, _ *prefill.Request) [3]float64 {
			return [3]float64{float64(4*l.ranks[g].Waiting + l.ranks[g].Running)}
		})},
		{"vllm-new", .1, func(n int) PrefillPolicy { return &rotating{rankLedger: newRankLedger(n), inflight: make([]int, n)} }},
		{"gie-default", .05, func(n int) PrefillPolicy { return &gie{newRankLedger(n), rand.New(rand.NewPCG(3, 4))} }},
		{"dynamo", 0, least(func(l *rankLedger, g int, r *prefill.Request) [3]float64 {
			return [3]float64{float64(l.ranks[g].Pending+news(r, g)) + float64(l.ranks[g].KV+r.Tokens)}
		})},
		{"lmetric", .02, least(func(l *rankLedger, g int, r *prefill.Request) [3]float64 {
			return [3]float64{float64(news(r, g)) * (l.b(g) + 1)}
		})},
		{"tpu-inference", 0, least(func(l *rankLedger, g int, r *prefill.Request) [3]float64 {
			return [3]float64{float64(l.ranks[g].Pending + news(r, g)), l.b(g)}
		})},
		{"sbs-iqr", 0, func(n int) PrefillPolicy { return &sbs{newRankLedger(n)} }},
		{"trtllm-adp", 0, func(n int) PrefillPolicy { return &adp{newRankLedger(n)} }},
		{"trtllm-cache-aware", 0, func(n int) PrefillPolicy { return &cacheAware{newRankLedger(n)} }},
	}
}

// news is what a request computes on rank g.
func news(r *prefill.Request, g int) int64 {
	if r.CachedAt != nil {
		return r.Tokens - r.CachedAt[g]
	}
	return r.Tokens - r.Cached
}

// ledger is a policy's own copy of the state.
type rankLedger struct {
	ranks  []RankState
	placed map[prefill.ID]placed
}

type placed struct {
	rank    int
	tokens  int64
	pending int64
}

func newRankLedger(ranks int) rankLedger {
	return rankLedger{make([]RankState, ranks), map[prefill.ID]placed{}}
}

func (l *rankLedger) Observe(rank int, s RankState) { l.ranks[rank] = s }

// b is the requests of a rank, t the tokens.
func (l *rankLedger) b(g int) float64 { return float64(l.ranks[g].Running + l.ranks[g].Waiting) }
func (l *rankLedger) t(g int) float64 { return float64(l.ranks[g].KV + l.ranks[g].WaitingTokens) }

func (l *rankLedger) place(r *prefill.Request, g int) {
	k := &l.ranks[g]
	n := news(r, g)
	k.Waiting++
	k.WaitingTokens += r.Tokens
	k.Pending += n
	l.placed[r.ID] = placed{g, r.Tokens, n}
}

// Done takes a request off the copy of the state, as far as it is still in it.
func (l *rankLedger) Done(id prefill.ID) error {
	p, ok := l.placed[id]
	if !ok {
		return fmt.Errorf("%w: %d", prefill.ErrUnknown, id)
	}
	delete(l.placed, id)
	k := &l.ranks[p.rank]
	if k.Waiting > 0 {
		k.Waiting--
		k.WaitingTokens = max(0, k.WaitingTokens-p.tokens)
	} else {
		k.Running = max(0, k.Running-1)
		k.KV = max(0, k.KV-p.tokens)
	}
	k.Pending = max(0, k.Pending-p.pending)
	return nil
}

// argmin places on the rank of the least score, the first of equals.
type argmin struct {
	rankLedger
	score func(l *rankLedger, g int, r *prefill.Request) [3]float64
}

func (p *argmin) Add(r prefill.Request) (int, error) {
	best, least := 0, p.score(&p.rankLedger, 0, &r)
	for g := 1; g < len(p.ranks); g++ {
		if s := p.score(&p.rankLedger, g, &r); slices.Compare(s[:], least[:]) < 0 {
			best, least = g, s
		}
	}
	p.place(&r, best)
	return best, nil
}

type turns struct {
	rankLedger
	next int
}

func (p *turns) Add(r prefill.Request) (int, error) {
	g := p.next
	p.next = (g + 1) % len(p.ranks)
	p.place(&r, g)
	return g, nil
}

type twoRandom struct {
	rankLedger
	rand *rand.Rand
}

func (p *twoRandom) Add(r prefill.Request) (int, error) {
	g := p.rand.IntN(len(p.ranks))
	if n := len(p.ranks); n > 1 {
		if h := (g + 1 + p.rand.IntN(n-1)) % n; p.b(h) < p.b(g) {
			g = h
		}
	}
	p.place(&r, g)
	return g, nil
}

// rotating is vLLM's since mid-2026. Prefill leaves KV use out of account: none
// of the units here runs short of it.
type rotating struct {
	rankLedger
	inflight []int
	start    int
}

func (p *rotating) Add(r prefill.Request) (int, error) {
	n := len(p.ranks)
	best, least := -1, 0
	for i := range n {
		g := (p.start + i) % n
		if s := max(p.inflight[g], p.ranks[g].Waiting+p.ranks[g].Running); best < 0 || s < least {
			best, least = g, s
		}
	}
	p.start = (p.start + 1) % n
	p.inflight[best]++
	p.place(&r, best)
	return best, nil
}

func (p *rotating) Done(id prefill.ID) error {
	if q, ok := p.placed[id]; ok {
		p.inflight[q.rank]--
	}
	return p.rankLedger.Done(id)
}

// gie scores the queue and the KV use, each from 0 to 1; ties at random.
type gie struct {
	rankLedger
	rand *rand.Rand
}

func (p *gie) Add(r prefill.Request) (int, error) {
	lo, hi, kv := p.ranks[0].Waiting, p.ranks[0].Waiting, int64(1)
	for g := range p.ranks {
		lo, hi, kv = min(lo, p.ranks[g].Waiting), max(hi, p.ranks[g].Waiting), max(kv, p.ranks[g].KV)
	}
	best, most, ties := 0, -1.0, 0
	for g := range p.ranks {
		queue := 1.0
		if hi > lo {
			queue = float64(hi-p.ranks[g].Waiting) / float64(hi-lo)
		}
		s := queue + 1 - float64(p.ranks[g].KV)/float64(max(kv, 383_000))
		switch {
		case s > most:
			best, most, ties = g, s, 1
		case s == most:
			if ties++; p.rand.IntN(ties) == 0 {
				best = g
			}
		}
	}
	p.place(&r, best)
	return best, nil
}

// longestPrompts returns the order of requests by falling length.
func longestPrompts(rs []prefill.Request) []int {
	order := make([]int, len(rs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rs[b].Tokens, rs[a].Tokens) })
	return order
}

// one places a single request by a batch policy.
func one(p PrefillBatch, r prefill.Request) (rank int) {
	p.AddBatch([]prefill.Request{r}, func(_, g int) { rank = g })
	return rank
}

// sbs is staggered batch scheduling: ranks with outlying KV are masked.
type sbs struct{ rankLedger }

func (p *sbs) Add(r prefill.Request) (int, error) { return one(p, r), nil }

func (p *sbs) AddBatch(rs []prefill.Request, place func(i, rank int)) {
	kv := make([]float64, len(p.ranks))
	for _, i := range longestPrompts(rs) {
		for g := range kv {
			kv[g] = p.t(g)
		}
		sorted := slices.Sorted(slices.Values(kv))
		n := len(sorted)
		limit := sorted[n-1]
		if n >= 4 {
			q1, q3 := sorted[n/4], sorted[3*n/4]
			limit = q3 + 1.5*(q3-q1)
		}
		best := -1
		for g := range kv {
			if kv[g] <= limit && (best < 0 || p.b(g) < p.b(best) || p.b(g) == p.b(best) && kv[g] < kv[best]) {
				best = g
			}
		}
		p.place(&rs[i], best)
		place(i, best)
	}
}

// adp is TensorRT-LLM's attention-DP balancer: longest first onto the rank of
// fewest tokens that has not its share of the requests.
type adp struct{ rankLedger }

func (p *adp) Add(r prefill.Request) (int, error) { return one(p, r), nil }

type adpHeap struct {
	l     *rankLedger
	ranks []int
}

func (h *adpHeap) Len() int { return len(h.ranks) }
func (h *adpHeap) Less(i, j int) bool {
	a, b := h.ranks[i], h.ranks[j]
	return cmp.Or(cmp.Compare(h.l.t(a), h.l.t(b)), cmp.Compare(h.l.b(a), h.l.b(b)), cmp.Compare(a, b)) < 0
}
func (h *adpHeap) Swap(i, j int) { h.ranks[i], h.ranks[j] = h.ranks[j], h.ranks[i] }
func (h *adpHeap) Push(x any)    { h.ranks = append(h.ranks, x.(int)) }
func (h *adpHeap) Pop() any {
	n := len(h.ranks) - 1
	x := h.ranks[n]
	h.ranks = h.ranks[:n]
	return x
}

func (p *adp) AddBatch(rs []prefill.Request, place func(i, rank int)) {
	sum, most := len(rs), 0
	for g := range p.ranks {
		n := p.ranks[g].Running + p.ranks[g].Waiting
		sum, most = sum+n, max(most, n)
	}
	share := max((sum+len(p.ranks)-1)/len(p.ranks), most)
	h := &adpHeap{l: &p.rankLedger}
	for g := range p.ranks {
		if int(p.b(g)) < share {
			h.ranks = append(h.ranks, g)
		}
	}
	heap.Init(h)
	for _, i := range longestPrompts(rs) {
		g := h.ranks[0]
		p.place(&rs[i], g)
		place(i, g)
		if int(p.b(g)) >= share && h.Len() > 1 {
			heap.Pop(h)
		} else {
			heap.Fix(h, 0)
		}
	}
}

// cacheAware is TensorRT-LLM's router that weighs prefix matches against tokens.
type cacheAware struct{ rankLedger }

func (p *cacheAware) Add(r prefill.Request) (int, error) { return one(p, r), nil }

func (p *cacheAware) AddBatch(rs []prefill.Request, place func(i, rank int)) {
	sum, total := len(rs), 0.0
	for g := range p.ranks {
		sum += p.ranks[g].Running + p.ranks[g].Waiting
		total += p.t(g)
	}
	share := (2*sum + len(p.ranks) - 1) / len(p.ranks)
	for _, i := range longestPrompts(rs) {
		r := &rs[i]
		s := float64(r.Tokens)
		best, least := -1, 0.0
		for g := range p.ranks {
			if int(p.b(g)) >= share {
				continue
			}
			match := s - float64(news(r, g))
			if match <= .1*s {
				match = 0
			}
			if x := s - match + p.t(g)/max(total, s)*s; best < 0 || x < least {
				best, least = g, x
			}
		}
		if best < 0 {
			best = 0
		}
		p.place(r, best)
		total += s
		place(i, best)
	}
}
