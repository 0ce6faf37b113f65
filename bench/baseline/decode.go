package baseline

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/decode"
)

// DecodePolicies lists what systems run, and what has been published, to place
// decode requests. Each updates its own ledger after a choice.
func DecodePolicies() []DecodePolicy {
	return []DecodePolicy{
		{"round-robin", roundRobin, nil},
		{"random", randomRank, nil},
		{"power-of-two", powerOfTwo, nil},
		{"least-requests", leastRequests, nil}, // also sglang-total-requests
		{"least-kv", leastKV, nil},
		{"least-tokens", leastTokens, nil}, // also sglang-total-tokens, dynamo without cache
		{"vllm-old", vllmOld, nil},
		{"vllm-new", vllmNew, nil},
		{"gie-default", gieDefault, nil},
		{"trtllm-adp", leastTokens, trtllmADP},
		{"trtllm-cache-aware", trtllmCacheAware, nil},
		{"sbs-iqr", sbsIQR, sbsIQRBatch},
		{"br-0", br0, nil},
		{"br-h", brH, nil},
		{"bf-io", bfIO, bfIOBatch},
	}
}

// DecodePolicy is a policy that places decode requests.
type DecodePolicy struct {
	Name string
	one  func(l *Ledger, r decode.Request) int
	// batch places several; nil = one by one, in their order.
	batch func(l *Ledger, requests []decode.Request, place func(i, rank int))
}

// New returns the policy on an empty unit whose ranks hold so many tokens of KV
// cache.
func (p DecodePolicy) New(ranks int, capacity int64, seed uint64) *Ledger {
	l := &Ledger{policy: p, ids: map[decode.ID]int{}, capacity: float64(max(capacity, 1)), rng: rand.New(rand.NewPCG(seed, 1))}
	l.running, l.waiting = make([]int, ranks), make([]int, ranks)
	l.kv, l.tokens = make([]int64, ranks), make([]int64, ranks)
	return l
}

// Ledger is what a policy knows of a unit. It is a decode.Batcher; what it is told
// by Report, it takes for the truth.
type Ledger struct {
	policy   DecodePolicy
	capacity float64
	rng      *rand.Rand
	next     int

	// For each rank: requests that run and that wait for the next step, KV use of
	// those that run, and the tokens of all.
	running, waiting []int
	kv, tokens       []int64

	clock    int64
	ids      map[decode.ID]int // of requests
	requests []held
	free     []int
	ahead    ahead
}

type held struct {
	rank int
	base int64 // tokens - clock
	end  int64 // clock at which it is predicted to end; 0 = never
	came int64 // clock at which it was placed: it waits while that lasts
}

var _ decode.Batcher = (*Ledger)(nil)

// Add places one request. Errors: decode.ErrValue, decode.ErrKnown.
func (l *Ledger) Add(r decode.Request) (int, error) {
	if r.KV < 0 {
		return decode.Full, fmt.Errorf("%w: kv %d", decode.ErrValue, r.KV)
	}
	if _, ok := l.ids[r.ID]; ok {
		return decode.Full, fmt.Errorf("%w: id %d", decode.ErrKnown, r.ID)
	}
	g := l.policy.one(l, r)
	l.put(g, r)
	return g, nil
}

func (l *Ledger) put(g int, r decode.Request) {
	tokens := r.KV
	l.waiting[g]++
	l.tokens[g] += tokens
	i := len(l.requests)
	if n := len(l.free); n > 0 {
		i, l.free = l.free[n-1], l.free[:n-1]
	} else {
		l.requests = append(l.requests, held{})
	}
	l.requests[i] = held{rank: g, base: tokens - l.clock, came: l.clock}
	if r.Output > 0 {
		l.requests[i].end = l.clock + r.Output
	}
	l.ahead.add(l, i, 1)
	l.ids[r.ID] = i
}

// Batch places several requests. Errors: decode.ErrValue, decode.ErrKnown.
func (l *Ledger) Batch(dst []int, requests []decode.Request) ([]int, error) {
	seen := make(map[decode.ID]bool, len(requests))
	for i, r := range requests {
		if r.KV < 0 {
			return dst, fmt.Errorf("%w: request %d: kv %d", decode.ErrValue, i, r.KV)
		}
		if _, ok := l.ids[r.ID]; ok || seen[r.ID] {
			return dst, fmt.Errorf("%w: request %d: id %d", decode.ErrKnown, i, r.ID)
		}
		seen[r.ID] = true
	}
	first := len(dst)
	dst = append(dst, make([]int, len(requests))...)
	if l.policy.batch == nil {
		for i, r := range requests {
			dst[first+i], _ = l.Add(r)
		}
		return dst, nil
	}
	l.policy.batch(l, requests, func(i, g int) {
		l.put(g, requests[i])
		dst[first+i] = g
	})
	return dst, nil
}

// Done releases a request.
func (l *Ledger) Done(id decode.ID) error {
	i, ok := l.ids[id]
	if !ok {
		return fmt.Errorf("%w: id %d", decode.ErrUnknown, id)
	}
	delete(l.ids, id)
	l.ahead.add(l, i, -1)
	q := &l.requests[i]
	l.tokens[q.rank] -= q.base + l.clock
	if q.came == l.clock {
		l.waiting[q.rank]--
	} else {
		l.running[q.rank]--
		l.kv[q.rank] -= q.base + l.clock
	}
	q.rank = -1
	l.free = append(l.free, i)
	return nil
}

// Step starts what waits, and everything that runs grows by a token.
func (l *Ledger) Step() {
	l.clock++
	for g := range l.running {
		l.running[g] += l.waiting[g]
		l.waiting[g] = 0
		l.tokens[g] += int64(l.running[g])
		l.kv[g] = l.tokens[g]
	}
}

// Report overwrites what is known of a rank.
func (l *Ledger) Report(r decode.Report) error {
	g := r.Rank
	l.running[g], l.waiting[g] = r.Requests, 0
	l.kv[g], l.tokens[g] = r.KV, r.KV
	return nil
}

// all is how many requests a rank has.
func (l *Ledger) all(g int) int { return l.running[g] + l.waiting[g] }

// least returns the rank of the least key, the first of those that tie.
func (l *Ledger) least(key func(g int) (float64, float64)) int {
	best, bx, by := -1, 0.0, 0.0
	for g := range l.running {
		x, y := key(g)
		if best < 0 || x < bx || x == bx && y < by {
			best, bx, by = g, x, y
		}
	}
	return best
}

func roundRobin(l *Ledger, _ decode.Request) int {
	l.next = (l.next + 1) % len(l.running)
	return l.next
}

func randomRank(l *Ledger, _ decode.Request) int { return l.rng.IntN(len(l.running)) }

func powerOfTwo(l *Ledger, _ decode.Request) int {
	n := len(l.running)
	a := l.rng.IntN(n)
	if n == 1 {
		return a
	}
	b := (a + 1 + l.rng.IntN(n-1)) % n
	if l.all(b) < l.all(a) {
		return b
	}
	return a
}

func leastRequests(l *Ledger, _ decode.Request) int {
	return l.least(func(g int) (float64, float64) { return float64(l.all(g)), 0 })
}

// leastKV sees running requests alone; the last tie wins.
func leastKV(l *Ledger, _ decode.Request) int {
	best := 0
	for g := range l.kv {
		if l.kv[g] <= l.kv[best] {
			best = g
		}
	}
	return best
}

func leastTokens(l *Ledger, _ decode.Request) int {
	return l.least(func(g int) (float64, float64) { return float64(l.tokens[g]), float64(l.all(g)) })
}

func vllmOld(l *Ledger, _ decode.Request) int {
	return l.least(func(g int) (float64, float64) { return float64(4*l.waiting[g] + l.running[g]), 0 })
}

func vllmNew(l *Ledger, _ decode.Request) int {
	n := len(l.running)
	best, score := -1, 0.0
	for i := range n {
		g := (l.next + i) % n
		s := float64(l.all(g)) + float64(l.waiting[g])*6*max(0, float64(l.kv[g])/l.capacity-0.5)
		if best < 0 || s < score {
			best, score = g, s
		}
	}
	l.next = (l.next + 1) % n
	return best
}

func gieDefault(l *Ledger, _ decode.Request) int {
	least, most := slices.Min(l.waiting), slices.Max(l.waiting)
	best, score, ties := -1, 0.0, 0
	for g := range l.running {
		queue := 1.0
		if most > least {
			queue = float64(most-l.waiting[g]) / float64(most-least)
		}
		s := queue + 1 - float64(l.kv[g])/l.capacity
		switch {
		case best < 0 || s > score:
			best, score, ties = g, s, 1
		case s == score:
			if ties++; l.rng.IntN(ties) == 0 {
				best = g
			}
		}
	}
	return best
}

// longestFirst returns the indices of a batch by falling length.
func longestFirst(requests []decode.Request) []int {
	order := make([]int, len(requests))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(requests[j].KV, requests[i].KV) })
	return order
}

// trtllmADP fills ranks by least tokens up to an even count.
func trtllmADP(l *Ledger, requests []decode.Request, place func(i, rank int)) {
	sum, most := len(requests), 0
	for g := range l.running {
		sum += l.all(g)
		most = max(most, l.all(g))
	}
	even := max((sum+len(l.running)-1)/len(l.running), most)
	for _, i := range longestFirst(requests) {
		place(i, l.least(func(g int) (float64, float64) {
			if l.all(g) >= even {
				return math.Inf(1), float64(l.all(g))
			}
			return float64(l.tokens[g]), float64(l.all(g))
		}))
	}
}

// trtllmCacheAware, where nothing is cached: least tokens up to twice the even
// count.
func trtllmCacheAware(l *Ledger, _ decode.Request) int {
	sum := 1
	for g := range l.running {
		sum += l.all(g)
	}
	most := (2*sum + len(l.running) - 1) / len(l.running)
	return l.least(func(g int) (float64, float64) {
		if l.all(g) >= most {
			return math.Inf(1), float64(l.all(g))
		}
		return float64(l.tokens[g]), 0
	})
}

// sbsIQR is least requests, ties by KV use, but for ranks whose KV use is an
// outlier.
func sbsIQR(l *Ledger, _ decode.Request) int {
	bound := math.Inf(1)
	if n := len(l.tokens); n >= 4 {
		sorted := slices.Sorted(slices.Values(l.tokens))
		q1, q3 := float64(sorted[n/4]), float64(sorted[3*n/4])
		bound = q3 + 1.5*(q3-q1)
	}
	return l.least(func(g int) (float64, float64) {
		if float64(l.tokens[g]) > bound {
			return math.Inf(1), float64(l.all(g))
		}
		return float64(l.all(g)), float64(l.tokens[g])
	})
}

func sbsIQRBatch(l *Ledger, requests []decode.Request, place func(i, rank int)) {
	for _, i := range longestFirst(requests) {
		place(i, sbsIQR(l, requests[i]))
	}
}

// br0 is BalanceRoute without horizon: the request's tokens count for a rank, and
// what of them lies above the maximum counts against it as often as there are
// ranks; ties go to the rank of most free slots.
func br0(l *Ledger, r decode.Request) int {
	tokens := r.KV
	most := slices.Max(l.tokens)
	n := float64(len(l.tokens))
	return l.least(func(g int) (float64, float64) {
		above := max(0, l.tokens[g]+tokens-most)
		return n*float64(above) - float64(tokens), float64(l.all(g))
	})
}
