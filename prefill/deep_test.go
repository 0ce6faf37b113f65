package prefill

import (
	"math/rand/v2"
	"testing"
)

// TestFits compares what fits into a step with each prompt's own work: never more than
// that, and not much less.
func TestFits(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(5, seed))
		b := newUnit(t, Config{Ranks: 4})
		step, all, want := .05+r.Float64(), 0.0, 0.0
		for i := range 1 + r.IntN(40) {
			q := Request{ID: ID(i), Tokens: 100 + r.Int64N(1000)}
			if r.IntN(3) == 0 {
				q.Tokens *= 100
			}
			enqueue(t, b, q)
			own := b.cost.of(WorkOf(q.Tokens, 0))
			all += own
			want += min(own, step)
		}
		// above the step a class is known to a quarter
		if got := b.fits(all, step); got > want*(1+1e-9) || got < .2*want {
			t.Errorf("seed %d: %v of %v s fit into steps of %v s each", seed, got, want, step)
		}
	}
}

// TestGiantIsNoDeepQueue: a huge prompt that has just come does not fill the ranks, so
// who comes after it does not wait for a full step of its attention.
func TestGiantIsNoDeepQueue(t *testing.T) {
	s := newShadow(t, Config{Ranks: 12, MaxTokens: 8192})
	b := newUnit(t, s.cfg)
	for id := range ID(3) {
		s.add(b, Request{ID: 1_000_000 + id, Tokens: 100_000})
	}
	s.step(b)
	b.observed.inflow = 0 // as if they had come long ago
	s.add(b, Request{ID: 0, Tokens: 600_000})
	for id := ID(1); s.steps < 400; id++ {
		s.add(b, Request{ID: id, Tokens: 500})
		before := s.clock
		if s.step(b); b.former.Deep || s.clock-before > 3 {
			t.Fatalf("step %d takes %v s, deep: %v", s.steps, s.clock-before, b.former.Deep)
		}
	}
}

// TestClumpsShortenSteps: where a clump of prompts is to be expected, a long prompt that
// is alone takes shorter steps than where one is.
func TestClumpsShortenSteps(t *testing.T) {
	longest := func(clump int) float64 {
		s := newShadow(t, Config{Ranks: 8, MaxTokens: 8192})
		b := newUnit(t, s.cfg)
		s.add(b, Request{ID: 0, Tokens: 900_000})
		most, next := 0.0, 0.0
		for id := ID(1); s.steps < 300; {
			if s.clock >= next {
				for range clump {
					s.add(b, Request{ID: id, Tokens: 500})
					id++
				}
				next = s.clock + 15
			}
			before := s.clock
			if s.step(b); s.steps > 100 {
				most = max(most, s.clock-before)
			}
		}
		return most
	}
	if one, many := longest(1), longest(20); many > .75*one {
		t.Errorf("at most %v s a step where 20 come together, %v where one does", many, one)
	}
}
