package prefill

import (
	"math/rand/v2"
	"testing"
)

// exhaustive is the shortest step of all placements of the works.
func exhaustive(c Cost, works []Work, load []Work) float64 {
	if len(works) == 0 {
		var most Work
		for _, w := range load {
			most = Work{max(most.Tokens, w.Tokens), max(most.Pairs, w.Pairs)}
		}
		return c.of(most)
	}
	best := 1e300
	for g := range load {
		load[g] = load[g].plus(works[0])
		best = min(best, exhaustive(c, works[1:], load))
		load[g] = load[g].less(works[0])
	}
	return best
}

// TestPackAgainstExhaustive compares the step that takes all of a tiny queue with
// the best of all placements.
func TestPackAgainstExhaustive(t *testing.T) {
	sum, worst := 0.0, 1.0
	const n = 300
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(7, seed))
		ranks := 2 + r.IntN(3)
		b := newUnit(t, Config{Ranks: ranks, MaxTokens: 16384})
		var works []Work
		for i := range 2 + r.IntN(6) {
			q := Request{ID: ID(i), Tokens: 1 + r.Int64N(1500)}
			if r.IntN(2) == 0 {
				q.Cached = r.Int64N(5000)
				q.Tokens += q.Cached
			}
			works = append(works, WorkOf(q.Tokens-q.Cached, q.Cached))
			enqueue(t, b, q)
		}
		b.survey(nil)
		b.pack(caps{16384, 40_000_000})
		if len(b.former.pieces) != len(works) {
			t.Fatalf("seed %d: %d of %d prompts", seed, len(b.former.pieces), len(works))
		}
		m := b.former.most()
		got := b.cost.of(Work{int64(m.tokens), int64(m.pairs)})
		want := exhaustive(b.cost, works, make([]Work, ranks))
		if got < want*(1-1e-9) {
			t.Fatalf("seed %d: a step of %v s, the best is %v s", seed, got, want)
		}
		sum += got / want
		worst = max(worst, got/want)
	}
	t.Logf("mean %.4f, worst %.4f of the best", sum/n, worst)
	if sum > 1.08*n || worst > 1.5 {
		t.Errorf("mean %.4f, worst %.4f of the best", sum/n, worst)
	}
}
