package pack

import (
	"math"
	"math/rand/v2"
	"testing"
)

// exhaustive is the shortest step of all placements of the works.
func exhaustive(c *Cost, works []Work, load []Work) float64 {
	if len(works) == 0 {
		var most Work
		for _, w := range load {
			most = Work{max(most.Tokens, w.Tokens), max(most.Pairs, w.Pairs)}
		}
		return c.Of(most)
	}
	best := 1e300
	for g := range load {
		before := load[g]
		load[g] = before.plus(works[0])
		best = min(best, exhaustive(c, works[1:], load))
		load[g] = before
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
		f := Former{Cost: Cost{Pair: 9.994e-9, Token: 1.48e-4, Step: .02}, Late: -1}
		f.Clear(ranks)
		for g := range ranks {
			f.SetRank(g, Rank{Open: true, Speed: 1, Tokens: 16384, Seconds: math.Inf(1), Room: math.MaxInt64})
		}
		var works []Work
		for i := range 2 + r.IntN(6) {
			n, cached := 1+r.Int64N(1500), int64(0)
			if r.IntN(2) == 0 {
				cached = r.Int64N(5000)
			}
			w := Work{n, pairsOf(n, cached)}
			works = append(works, w)
			f.Items = append(f.Items, Item{Rank: -1, Left: n, Pos: cached, Pairs: w.Pairs, Seconds: f.Cost.Of(w), Urgency: 1, Seq: int64(i)})
		}
		f.Urgent = len(f.Items)
		f.arrange()
		f.pack(caps{16384, 40_000_000})
		if len(f.Pieces) != len(works) {
			t.Fatalf("seed %d: %d of %d prompts", seed, len(f.Pieces), len(works))
		}
		m := f.most()
		got := f.Cost.Of(Work{int64(m.tokens), int64(m.pairs)})
		want := exhaustive(&f.Cost, works, make([]Work, ranks))
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
