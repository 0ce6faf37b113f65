package prefill

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/internal/long"

	"github.com/moelb/moelb/prefill/internal/pack"
)

// seconds is how long a step takes, each prompt's work in it, and where.
func (s *shadow) seconds(b *Balancer) (step float64, of map[ID]float64, on map[ID]int) {
	s.tb.Helper()
	before := map[ID]int64{}
	for id, r := range s.left {
		before[id] = r.Cached
	}
	start := s.clock
	chunks, _ := s.step(b)
	of, on = map[ID]float64{}, map[ID]int{}
	for _, c := range chunks {
		on[c.ID] = c.Rank
		of[c.ID] = b.cost.of(WorkOf(c.Tokens, before[c.ID]))
	}
	return s.clock - start, of, on
}

// TestOldestHaveTheirShare floods a unit with prompts of all lengths, more than it
// can do, and demands of every step that each rank spends a share of it on prompts
// older than all that are left in the queue, or on the oldest that it has started, or
// all the tokens it may take: where that is late, or something younger is.
func TestOldestHaveTheirShare(t *testing.T) {
	times, n := 0, uint64(5)
	if long.Tests() {
		n = 20
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(21, seed))
		cfg := Config{Ranks: 1 + r.IntN(6), MaxTokens: 2048 << r.IntN(4)}
		b := newUnit(t, cfg)
		s := newShadow(t, cfg)
		next, late, due := ID(0), ID(0), map[ID]float64{}
		for step := range 120 {
			for tokens := int64(0); tokens < int64(cfg.Ranks)*cfg.MaxTokens*3/2; next++ {
				n := 1 + r.Int64N(2000)
				if r.IntN(40) == 0 {
					n = 1 + r.Int64N(120_000)
				}
				tokens += min(n, 4000)
				due[next] = s.clock + lateAfter*b.cost.of(b.total)/float64(cfg.Ranks)
				s.add(b, Request{ID: next, Tokens: n})
			}
			for id, at := range due {
				if at < s.clock {
					late = max(late, id)
					delete(due, id)
				}
			}
			took, of, on := s.seconds(b)
			first := next
			for id := range s.left {
				if _, ok := s.rank[id]; !ok {
					first = min(first, id)
				}
			}
			for g := range cfg.Ranks {
				oldest := next
				for id, at := range s.rank {
					if at == g {
						oldest = min(oldest, id)
					}
				}
				spent := 0.0
				for id, x := range of {
					if on[id] == g && (id < first || id <= oldest) {
						spent += x
					}
				}
				if min(first, oldest) > late {
					continue
				}
				times++
				if spent < b.former.Share()*took-1e-6 && b.former.tokensOf(g) < cfg.MaxTokens {
					t.Fatalf("seed %d, step %d of %.3f s: rank %d spends %.4f s on its oldest", seed, step, took, g, spent)
				}
			}
		}
	}
	if times < 50*int(n) {
		t.Errorf("only %d times is anybody late", times)
	}
}

// tokensOf are the tokens that the latest step gives a rank.
func (f *former) tokensOf(g int) (sum int64) {
	for i := range f.Pieces {
		if int(f.Pieces[i].Rank) == g {
			sum += f.Pieces[i].N
		}
	}
	return sum
}

// TestWaitingIsBounded is an adversary: while others wait, it sends the prompts that the
// rule likes best, short ones, faster than they can be served. Whoever came before must
// end once it is late, in the time that the work before it takes with a share of the unit,
// and its own. Where each rank caches its own, one rank has most of those who wait, and of
// the short ones, and work counts as it is without.
func TestWaitingIsBounded(t *testing.T) {
	for _, local := range []bool{false, true} {
		for seed := range uint64(6) {
			r := rand.New(rand.NewPCG(22, seed))
			cfg := Config{Ranks: 2 + r.IntN(4), MaxTokens: 4096}
			b := newUnit(t, cfg)
			s := newShadow(t, cfg)
			add := func(id ID, n, cached int64) {
				q := Request{ID: id, Tokens: n + cached, Cached: cached}
				if local {
					q.Cached, q.CachedAt = 0, make([]int64, cfg.Ranks)
					q.CachedAt[0] = cached
				}
				s.add(b, q)
			}
			due := map[ID]float64{}
			before, longest := 0.0, 0.0
			id := ID(0)
			for ; id < 20; id++ {
				n, cached := 1000+r.Int64N(60_000), int64(0)
				own := b.cost.of(WorkOf(n, 0))
				if local {
					cached = n / 10 * r.Int64N(10)
				}
				longest = max(longest, own)
				due[id] = lateAfter*before/float64(cfg.Ranks) + (before/float64(cfg.Ranks)+2*longest+own)/pack.LeastShare + b.cost.Seconds(WorkOf(cfg.MaxTokens, 60_000))
				before += own
				add(id, n-cached, cached)
			}
			worst := 0.0
			for len(due) > 0 {
				for tokens := int64(0); tokens < int64(cfg.Ranks)*cfg.MaxTokens*5/4; id++ {
					n := 50 + r.Int64N(400)
					tokens += n
					add(id, n, 20_000*r.Int64N(2)) // full of attention, or of tokens
				}
				s.step(b)
				for x, d := range due {
					if s.clock > d {
						t.Fatalf("local %v, seed %d: prompt %d has not ended after %.1f s, due at %.1f", local, seed, x, s.clock, d)
					}
					if _, ok := s.left[x]; !ok {
						worst = max(worst, s.clock/d)
						delete(due, x)
					}
				}
			}
			t.Logf("local %v, seed %d: at most %.2f of the bound", local, seed, worst)
		}
	}
}

// TestBusyCacheHoldsNobody keeps one rank of some at work on prompts of 400,000 tokens and
// more, of which it caches the most, while the others have little to do. What it caches of
// others is of no use to them for as long as that takes: they end in the time that computing
// all of them again takes, and that of each other, a few times over.
func TestBusyCacheHoldsNobody(t *testing.T) {
	const times = 4
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(26, seed))
		cfg := Config{Ranks: 4 + r.IntN(5), MaxTokens: 2048 << r.IntN(3)}
		b := newUnit(t, cfg)
		s := newShadow(t, cfg)
		long, id, worst := 400_000<<r.IntN(2), ID(1), 0.0
		due, giants := map[ID]float64{}, map[ID]bool{}
		add := func(n, cached int64) ID {
			q := Request{ID: id, Tokens: n, CachedAt: make([]int64, cfg.Ranks)}
			q.CachedAt[cfg.Ranks-1] = cached
			s.add(b, q)
			id++
			return q.ID
		}
		full := b.cost.Seconds(WorkOf(cfg.MaxTokens, 0)) * (1.2 + longestTimes)
		for step := 0; s.clock < 300; step++ {
			for len(giants) < 2 {
				giants[add(int64(long), int64(long/10*9))] = true
			}
			if step%30 == 10 {
				cached, n := 8000+r.Int64N(16_000), 5000+r.Int64N(10_000)
				due[add(cached+n, cached)] = s.clock + times*(b.cost.of(WorkOf(cached+n, 0))+full)
			}
			if step%3 == 0 {
				add(1+r.Int64N(1000), 0)
			}
			s.step(b)
			for x := range giants {
				if _, here := s.left[x]; !here {
					delete(giants, x)
				}
			}
			for x, d := range due {
				if _, here := s.left[x]; !here {
					delete(due, x)
				} else if s.clock > d {
					t.Fatalf("seed %d: prompt %d of %d tokens, %d at its cache, has not ended at %.1f s, due at %.1f", seed, x, s.left[x].Tokens, s.left[x].CachedAt[cfg.Ranks-1], s.clock, d)
				}
				worst = max(worst, s.clock-d)
			}
		}
		t.Logf("seed %d: %d prompts, at most %.1f s late", seed, id, worst)
	}
}

// longestTimes is how many times as long as full tokens a step may be for attention.
const longestTimes = 4

// TestNoStepIsLong: while prompts come, few as they may be, no step lasts many times as long
// as a full one because long ones run, however many.
func TestNoStepIsLong(t *testing.T) {
	for _, prompts := range []ID{1, 5, 13} {
		cfg := Config{Ranks: 8, MaxTokens: 4096}
		b := newUnit(t, cfg)
		s := newShadow(t, cfg)
		for id := range prompts {
			s.add(b, Request{ID: id, Tokens: 300_000 + 20_000*int64(id)})
		}
		most, tokens := 0.0, float64(b.cost.Token*4096)
		for step := range ID(200) {
			if step%4 == 0 {
				s.add(b, Request{ID: 1000 + step, Tokens: 500})
			}
			took, _, _ := s.seconds(b)
			if step > 20 {
				most = max(most, took)
			}
		}
		// what the longest trial may take, and what shares may add to it
		if bound := (b.cost.Step + 5*tokens) / (1 - 3*2*pack.LeastShare); most > bound || most < tokens {
			t.Errorf("%d prompts: a step of %.2f s, of at most %.2f", prompts, most, bound)
		}
	}
}

// TestPrefixesLeaveRoom: where a chunk has to see a long prefix again, steps are as long as
// that is no large part of them.
func TestPrefixesLeaveRoom(t *testing.T) {
	cost := DeepSeekV3H800()
	cost.Prefix = 1e-5 // of 300,000 tokens as long as five full steps
	b := newUnit(t, Config{Ranks: 2, MaxTokens: 4096, Cost: cost})
	enqueue(t, b, Request{ID: 1, Tokens: 300_000})
	steps := 0
	for last := false; !last; steps++ {
		for _, c := range b.Step(nil) {
			last = last || c.Last
		}
		if steps == 1000 {
			t.Fatal("it has not ended after 1,000 steps")
		}
	}
	t.Logf("%d steps", steps)
}

// TestShortBesideLong: eight ranks, each in the middle of a prompt of 128k tokens,
// compute one of 500 that comes in the next step or the one after.
func TestShortBesideLong(t *testing.T) {
	for _, most := range []int64{2048, 4096, 8192, 16384} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			cfg := Config{Ranks: 8, MaxTokens: most}
			b := newUnit(t, cfg)
			s := newShadow(t, cfg)
			for g := range ID(8) {
				s.add(b, Request{ID: g, Tokens: 128 << 10})
			}
			for i := range ID(60) {
				for range 3 {
					s.step(b)
				}
				s.add(b, Request{ID: 100 + i, Tokens: 500})
				for range 2 {
					s.step(b)
				}
				if _, waits := s.left[100+i]; waits {
					t.Fatalf("after %d steps a prompt of 500 tokens is not computed in two", s.steps)
				}
			}
		})
	}
}

// TestPriority: who has a higher priority starts first, but one of a lower one
// waits no longer for that than Patience, and what a share takes.
func TestPriority(t *testing.T) {
	cfg := Config{Ranks: 1, MaxTokens: 1000, Patience: 3}
	b := newUnit(t, cfg)
	s := newShadow(t, cfg)
	s.add(b, Request{ID: 1, Tokens: 900})
	s.add(b, Request{ID: 2, Tokens: 900, Priority: 1})
	s.add(b, Request{ID: 3, Tokens: 900, Priority: 2})
	for _, want := range []ID{3, 2, 1} {
		chunks, _ := s.step(b)
		for i := 0; len(chunks) > 0 && !chunks[0].Last && i < 9; i++ {
			chunks, _ = s.step(b)
		}
		if len(chunks) == 0 || chunks[0].ID != want {
			t.Fatalf("%+v where %d was due", chunks, want)
		}
	}
	s.add(b, Request{ID: 4, Tokens: 900})
	for id := ID(5); ; id++ {
		s.add(b, Request{ID: id, Tokens: 900, Priority: 1})
		s.step(b)
		if _, waits := s.left[4]; !waits {
			break
		}
		if s.clock > 8 {
			t.Fatalf("a prompt of a lower priority still waits after %.1f s", s.clock)
		}
	}
}

// TestStepSeconds: no step lasts longer than it may, and all is computed.
func TestStepSeconds(t *testing.T) {
	for _, most := range []float64{.05, .2, .8} {
		cfg := Config{Ranks: 4, MaxTokens: 8192, StepSeconds: most}
		b := newUnit(t, cfg)
		s := newShadow(t, cfg)
		r := rand.New(rand.NewPCG(23, 1))
		for i := range 60 {
			s.add(b, Request{ID: ID(i), Tokens: 1 + r.Int64N(1+r.Int64N(30_000))})
		}
		for len(s.left) > 0 {
			before := s.clock
			if chunks, _ := s.step(b); s.clock-before > most*(1+1e-9) && len(chunks) > 1 {
				t.Fatalf("a step of %v s, %v allowed", s.clock-before, most)
			}
			if s.steps > 20_000 {
				t.Fatal("it does not end")
			}
		}
	}
}

// TestPage: chunks are whole pages, but for a prompt's last.
func TestPage(t *testing.T) {
	for _, page := range []int64{16, 64, 1000} {
		cfg := Config{Ranks: 3, MaxTokens: 4096, Page: page}
		b := newUnit(t, cfg)
		s := newShadow(t, cfg)
		r := rand.New(rand.NewPCG(24, uint64(page)))
		for i := range 80 {
			s.add(b, Request{ID: ID(i), Tokens: 1 + r.Int64N(1+r.Int64N(30_000))})
		}
		for len(s.left) > 0 {
			chunks, _ := s.step(b)
			for _, c := range chunks {
				if !c.Last && c.Tokens%page != 0 {
					t.Fatalf("page %d: a chunk of %d tokens", page, c.Tokens)
				}
			}
			if len(chunks) == 0 {
				t.Fatal("an empty step")
			}
		}
	}
}

// TestStepWithin: ranks take no more than what is left to each, and those with
// nothing left take nothing.
func TestStepWithin(t *testing.T) {
	const ranks = 4
	cfg := Config{Ranks: ranks, MaxTokens: 8192}
	b := newUnit(t, cfg)
	if _, err := b.StepWithin(nil, make([]Budget, ranks-1)); err == nil {
		t.Error("budgets of three ranks for four")
	}
	if _, err := b.StepWithin(nil, []Budget{{}, {}, {Tokens: -1}, {}}); err == nil {
		t.Error("a negative budget")
	}
	s := newShadow(t, cfg)
	r := rand.New(rand.NewPCG(25, 1))
	for i := range 200 {
		s.add(b, Request{ID: ID(i), Tokens: 1 + r.Int64N(1+r.Int64N(20_000))})
	}
	for len(s.left) > 0 {
		left := make([]Budget, ranks)
		for g := range left {
			if r.IntN(4) > 0 {
				left[g] = Budget{r.Int64N(8192), .05 + r.Float64()}
			}
		}
		_, load := s.check(b, func() []Chunk {
			chunks, err := b.StepWithin(nil, left)
			if err != nil {
				t.Fatal(err)
			}
			return chunks
		})
		for g, w := range load {
			if w.Tokens > left[g].Tokens || b.cost.of(w) > left[g].Seconds+1e-9 {
				t.Fatalf("rank %d: %+v, %.3f s, of %+v", g, w, b.cost.of(w), left[g])
			}
		}
		if s.steps > 5000 {
			t.Fatal("it does not end")
		}
	}
}

// TestSharesSuffice: where it takes long to see a long prompt's prefix again, its shares of
// several steps are spent on one chunk, at least half of which is of use; so most steps
// are short, and the prompt ends in the time that its share allows, twice over for that.
func TestSharesSuffice(t *testing.T) {
	cost := DeepSeekV3H800()
	cost.Prefix = 2e-5 // of 100,000 tokens as long as 13,000 new ones
	cfg := Config{Ranks: 4, MaxTokens: 4096, Cost: cost}
	b, s := newUnit(t, cfg), newShadow(t, cfg)
	s.add(b, Request{ID: 0, Tokens: 120_000, Cached: 100_000})
	own := b.cost.of(b.total)
	short, chunks, spent := 0, 0, 0.0
	for id := ID(1); s.clock < 1000; {
		if _, waits := s.left[0]; !waits {
			break
		}
		for range 9 {
			s.add(b, Request{ID: id, Tokens: 1000})
			id++
		}
		see := cost.Prefix * float64(s.left[0].Cached)
		took, of, _ := s.seconds(b)
		if took < .5 {
			short++
		}
		if useful := of[0]; useful > 0 {
			chunks++
			spent += see + useful
			if _, waits := s.left[0]; waits && useful < .99*see {
				t.Fatalf("step %d: %.3f s of use after %.3f of seeing the prefix", s.steps, useful, see)
			}
		}
	}
	if bound := 2 * own / pack.LeastShare; s.clock > bound {
		t.Errorf("after %.1f s, of %.1f, it has not ended", s.clock, bound)
	}
	if short < s.steps*3/4 {
		t.Errorf("of %d steps %d are short", s.steps, short)
	}
	if spent < s.clock*pack.LeastShare || spent > 1.3*s.clock*pack.LeastShare {
		t.Errorf("%.1f s of %.1f are spent on it", spent, s.clock)
	}
	t.Logf("%.1f s, %d steps, %d short, %d chunks, %.1f s spent", s.clock, s.steps, short, chunks, spent)
}

// TestSharesInSnapshot: what is due is in a snapshot: a restored unit goes on as the one
// that it was taken of.
func TestSharesInSnapshot(t *testing.T) {
	cost := DeepSeekV3H800()
	cost.Prefix = 2e-5
	b := newUnit(t, Config{Ranks: 4, MaxTokens: 4096, Cost: cost})
	enqueue(t, b, Request{ID: 0, Tokens: 120_000, Cached: 100_000})
	twin, owed := (*Balancer)(nil), false
	for step := range ID(300) {
		for i := range ID(9) {
			r := Request{ID: 1 + 9*step + i, Tokens: 1000}
			if enqueue(t, b, r); twin != nil {
				enqueue(t, twin, r)
			}
		}
		chunks := b.Step(nil)
		if twin != nil && !slices.Equal(twin.Step(nil), chunks) {
			t.Fatalf("step %d differs", step)
		}
		if twin = nil; b.ranks[b.requests[b.ids.Find(0)].rank].owed > 1 || owed {
			owed = true
		}
		if owed {
			var err error
			if twin, err = FromSnapshot(b.AppendSnapshot(nil)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !owed {
		t.Error("nothing was ever due")
	}
}

// TestStepsSeePrefixesTwice: while others come, a step takes no longer than it takes to see
// the longest prefix twice over, and long enough for a chunk that sees it to get on: a
// prompt of a long prefix on an otherwise idle rank need not be late for that.
func TestStepsSeePrefixesTwice(t *testing.T) {
	cost := DeepSeekV3H800()
	cost.Prefix = 1e-5
	cfg := Config{Ranks: 4, MaxTokens: 4096, Cost: cost}
	b, s := newUnit(t, cfg), newShadow(t, cfg)
	s.add(b, Request{ID: 0, Tokens: 410_000, Cached: 400_000})
	see, most := cost.Prefix*410_000, 0.0
	for id := ID(1); s.clock < 400; id++ {
		if _, waits := s.left[0]; !waits {
			break
		}
		if s.steps%2 == 0 {
			s.add(b, Request{ID: id, Tokens: 800})
		}
		took, _, _ := s.seconds(b)
		most = max(most, took)
	}
	t.Logf("%.1f s, %d steps, at most %.2f s", s.clock, s.steps, most)
	if most > see+b.cost.Step+b.cost.of(Work{Tokens: 4096}) {
		t.Errorf("a step of %.2f s beside %.2f to see the prefix", most, see)
	}
	if s.clock > 4*b.cost.of(Work{10_000, b.pairsOf(10_000, 400_000)}) {
		t.Errorf("it ends after %.1f s", s.clock)
	}
}
