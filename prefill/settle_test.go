package prefill

import (
	"math/rand/v2"
	"testing"
)

// exhaustive is the least step time, without the step's own, of whole prompts.
func exhaustive(c Cost, works []Work, load []Work) float64 {
	if len(works) == 0 {
		var most Work
		for _, w := range load {
			most = Work{max(most.Tokens, w.Tokens), max(most.Pairs, w.Pairs)}
		}
		return c.of(most)
	}
	best := -1.0
	for g := range load {
		load[g] = load[g].plus(works[0])
		if x := exhaustive(c, works[1:], load); best < 0 || x < best {
			best = x
		}
		load[g] = load[g].less(works[0])
	}
	return best
}

// TestStepAgainstExhaustive compares the step of every tiny queue with the best
// of all placements.
func TestStepAgainstExhaustive(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	}
	near, worst := 0, 1.0
	for seed := range n {
		r := rand.New(rand.NewPCG(7, uint64(seed)))
		ranks := 2 + r.IntN(3)
		cfg := Config{Ranks: ranks, MaxTokens: 16384}
		b := newUnit(t, cfg)
		s := newShadow(t, cfg)
		var works []Work
		for i := range 2 + r.IntN(6) {
			q := Request{ID: ID(i), Tokens: 1 + r.Int64N(550)}
			if r.IntN(2) == 0 {
				q.Cached = r.Int64N(20000)
				q.Tokens += q.Cached
			}
			works = append(works, WorkOf(q.Tokens-q.Cached, q.Cached))
			s.add(b, q)
		}
		_, load := s.step(b)
		if len(s.left) > 0 {
			t.Fatalf("seed %d: %d of %d prompts are not whole", seed, len(s.left), len(works))
		}
		got := exhaustive(b.cost, nil, load)
		want := exhaustive(b.cost, works, make([]Work, ranks))
		if got < want*(1-1e-9) {
			t.Fatalf("seed %d: a step of %v s, the best is %v s", seed, got, want)
		}
		if got <= 1.01*want {
			near++
		}
		worst = max(worst, got/want)
	}
	t.Logf("%d of %d within 1%%, worst %.4f", near, n, worst)
	if float64(near) < .99*float64(n) || worst > 1.05 {
		t.Errorf("%d of %d within 1%%, worst %.4f", near, n, worst)
	}
}

// TestMorePromptsThanTheSearchTakes keeps steps of many prompts near the mean,
// below which none can be.
func TestMorePromptsThanTheSearchTakes(t *testing.T) {
	for seed := range 40 {
		r := rand.New(rand.NewPCG(8, uint64(seed)))
		cfg := Config{Ranks: 4 + r.IntN(12), MaxTokens: 16384}
		b := newUnit(t, cfg)
		s := newShadow(t, cfg)
		var sum Work
		for i := range 5 * cfg.Ranks {
			q := Request{ID: ID(i), Tokens: 100 + r.Int64N(500)}
			sum = sum.plus(WorkOf(q.Tokens, 0))
			s.add(b, q)
		}
		_, load := s.step(b)
		got := exhaustive(b.cost, nil, load)
		if mean := b.cost.of(sum) / float64(cfg.Ranks); len(s.left) == 0 && got > 1.03*mean {
			t.Errorf("seed %d: %d ranks, %v s where the mean is %v", seed, cfg.Ranks, got, mean)
		}
	}
}
