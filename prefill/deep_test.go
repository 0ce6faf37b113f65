package prefill

import (
	"math"
	"math/rand/v2"
	"slices"
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

// TestBatchIsDeep: a queue is deep once nothing has come for twice as long as at most of
// late, or where more is here than was ever done; not while others come as they did.
func TestBatchIsDeep(t *testing.T) {
	for _, c := range []struct {
		seen  observed
		clock float64 // over what is here
		deep  bool
	}{
		{observed{pause: 1, came: 1}, 1.01, false},
		{observed{pause: 1, came: 1}, .99, true},
		{observed{pause: 1, silent: 1.9}, 1.01, false},
		{observed{pause: 1, silent: 2.1}, 1.01, true},
		{observed{pause: 1, silent: 2.1, came: 1}, 1.01, false},
		{observed{pause: 2, silent: 2.1}, 10, false},
		{observed{silent: .1}, 10, true},
	} {
		b := newUnit(t, Config{Ranks: 4, MaxTokens: 8192})
		for id := range ID(1000) {
			enqueue(t, b, Request{ID: id, Tokens: 1000})
		}
		b.observed, b.clock = c.seen, c.clock*b.ahead()
		if b.survey(nil); b.former.Deep != c.deep {
			t.Errorf("%+v, %v times as much done as is here: deep %v", c.seen, c.clock, b.former.Deep)
		}
	}
}

// TestAloneIsNotDeep: of a few giants not half of a full step fits into one, so full steps
// are not for them, however long nothing has come.
func TestAloneIsNotDeep(t *testing.T) {
	for n, deep := range map[int]bool{1: false, 4: true} {
		b := newUnit(t, Config{Ranks: 4, MaxTokens: 8192})
		for id := range ID(n) {
			enqueue(t, b, Request{ID: id, Tokens: 100_000})
		}
		b.observed, b.clock = observed{silent: 100}, 1e6 // all came long ago
		if b.survey(nil); b.former.Deep != deep {
			t.Errorf("%d giants: deep %v", n, b.former.Deep)
		}
	}
}

// TestComersEndSilence: giants have long steps once nothing has come for long, and those
// who then come do not wait for one more.
func TestComersEndSilence(t *testing.T) {
	s := newShadow(t, Config{Ranks: 8, MaxTokens: 8192})
	b := newUnit(t, s.cfg)
	for id := range ID(4) {
		s.add(b, Request{ID: 1000 + id, Tokens: 900_000})
	}
	for id := range ID(3) {
		s.add(b, Request{ID: id, Tokens: 500})
		s.step(b)
	}
	for range 20 {
		s.step(b)
	}
	silent, _, _ := s.seconds(b)
	for id := range ID(200) {
		s.add(b, Request{ID: 100 + id, Tokens: 8000})
	}
	most := b.cost.Step + 5*b.cost.Token*8192 // full tokens, and four times as long for attention
	if next, _, _ := s.seconds(b); silent < 2*most || next > most {
		t.Errorf("a step of %v s when many have come, after one of %v s, where at most %v s is due", next, silent, most)
	}
}

// TestPause: the longest time until one came is known, and forgotten slowly.
func TestPause(t *testing.T) {
	var o observed
	for range 3 {
		o.add(2, 1)
	}
	o.came = 4
	if o.add(.5, 1); o.pause != 8 || o.silent != 0 {
		t.Errorf("after 8 s without, 2 of them before the step: %+v", o)
	}
	o.add(.5, 1)
	for range memory {
		o.came = 1
		o.add(.5, 1)
	}
	if o.pause < 2 || o.pause > 4 {
		t.Errorf("after %d more: %+v", memory, o)
	}
}

// TestDeepOutlastsLongest: where others come, a queue that is a batch is deep once it
// outlasts the longest prompt's way through full steps, which are mostly tokens; where each
// rank caches its own, the longest alone.
func TestDeepOutlastsLongest(t *testing.T) {
	for _, c := range []struct {
		light int
		local bool
		deep  bool
	}{{120, false, false}, {1200, false, true}, {120, true, true}} {
		b := newUnit(t, Config{Ranks: 4, MaxTokens: 8192})
		enqueue(t, b, Request{ID: 0, Tokens: 16_000})
		for id := range ID(c.light) {
			q := Request{ID: id + 1, Tokens: 1000}
			if c.local {
				q.CachedAt = make([]int64, 4)
			}
			enqueue(t, b, q)
		}
		b.observed = observed{came: 1}
		b.survey(nil)
		own, way := b.former.longest, b.ahead()
		if own > way {
			t.Fatalf("%d light prompts take %v s, the long one %v: it is to be less", c.light, way, own)
		}
		if b.former.Deep != c.deep {
			t.Errorf("%d light prompts, caches of their own %v, %v s of all beside %v s of the long one: deep %v", c.light, c.local, way, own, b.former.Deep)
		}
	}
}

// TestLongestIsHere: the longest prompt is one that waits or runs, with what is left of it.
func TestLongestIsHere(t *testing.T) {
	b := newUnit(t, Config{Ranks: 2, MaxTokens: 8192})
	enqueue(t, b, Request{ID: 0, Tokens: 20_000})
	for b.total != (Work{}) {
		b.survey(nil)
		if want := b.cost.of(b.total); math.Abs(b.former.longest-want) > 1e-9 {
			t.Fatalf("the longest has %v s left, all have %v", b.former.longest, want)
		}
		b.Step(nil)
	}
}

// TestDeepTakesCached: of a deep queue where each rank caches its own, short prompts that a
// rank caches now run before older ones, also where the longest is cached nowhere; others
// that are as short do not.
func TestDeepTakesCached(t *testing.T) {
	for _, cached := range []int64{0, 800} {
		b := newUnit(t, Config{Ranks: 2, MaxTokens: 2000})
		for id := range ID(400) {
			enqueue(t, b, Request{ID: id, Tokens: 1900})
		}
		enqueue(t, b, Request{ID: 1000, Tokens: 200 + cached, CachedAt: []int64{0, cached}})
		cs := b.Step(nil)
		if !b.former.Deep {
			t.Fatal("the queue is not deep")
		}
		if ran := slices.ContainsFunc(cs, func(c Chunk) bool { return c.ID == 1000 && c.Rank == 1 }); ran != (cached > 0) {
			t.Errorf("%d tokens cached: runs at once on their rank: %v", cached, ran)
		}
	}
}

// TestLongestEndsWithBatch: where some prompts of a batch have more attention than a rank
// has of all the others', the batch ends once all is done and that has been added to its
// steps. Left over, their tokens would take their time as well, with nothing beside them.
func TestLongestEndsWithBatch(t *testing.T) {
	for name, c := range map[string]struct {
		long  []int64
		among []int
	}{
		"one":           {[]int64{40_000}, nil},
		"two on a rank": {[]int64{30_000, 30_000}, []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Ranks: 16, MaxTokens: 8192}
			b, s := newUnit(t, cfg), newShadow(t, cfg)
			for id := range ID(3000) {
				s.add(b, Request{ID: id, Tokens: 1000 + int64(id%1000)})
			}
			bound := 0.0
			for i, n := range c.long {
				s.add(b, Request{ID: 3000 + ID(i), Tokens: n, Among: c.among})
				bound += b.cost.of(Work{Pairs: WorkOf(n, 0).Pairs})
			}
			bound += b.ahead()
			for len(s.left) > 0 {
				s.step(b)
			}
			bound += float64(s.steps) * b.cost.Step
			t.Logf("%.2f s, %.3f of what the work takes and its longest prompts' attention, %d steps", s.clock, s.clock/bound, s.steps)
			if s.clock > bound {
				t.Errorf("it takes longer")
			}
		})
	}
}
