package prefill

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/internal/long"

	"github.com/google/go-cmp/cmp"
)

func newUnit(tb testing.TB, cfg Config) *Balancer {
	tb.Helper()
	b, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func enqueue(tb testing.TB, b *Balancer, rs ...Request) {
	tb.Helper()
	for _, r := range rs {
		if err := b.Enqueue(r); err != nil {
			tb.Fatal(err)
		}
	}
}

// shadow follows what a unit does by its chunks alone, and checks them.
type shadow struct {
	tb    testing.TB
	cfg   Config
	left  map[ID]Request // Cached = computed so far
	rank  map[ID]int
	clock float64
	steps int
}

func newShadow(tb testing.TB, cfg Config) *shadow {
	return &shadow{tb: tb, cfg: cfg, left: map[ID]Request{}, rank: map[ID]int{}}
}

// add enqueues a request and follows it.
func (s *shadow) add(b *Balancer, r Request) {
	s.tb.Helper()
	enqueue(s.tb, b, r)
	s.left[r.ID] = r
}

// step runs a step, checks it and returns its chunks and its rank loads.
func (s *shadow) step(b *Balancer) ([]Chunk, []Work) {
	s.tb.Helper()
	return s.check(b, func() []Chunk { return b.Step(nil) })
}

func (s *shadow) check(b *Balancer, form func() []Chunk) ([]Chunk, []Work) {
	s.tb.Helper()
	chunks := form()
	load := make([]Work, s.cfg.Ranks)
	for _, c := range chunks {
		r, ok := s.left[c.ID]
		if !ok {
			s.tb.Fatalf("a chunk of %d, which is not there", c.ID)
		}
		if g, ok := s.rank[c.ID]; ok && g != c.Rank {
			s.tb.Fatalf("request %d went from rank %d to %d", c.ID, g, c.Rank)
		} else if !ok && r.CachedAt != nil {
			r.Cached = r.CachedAt[c.Rank]
		}
		n := r.Tokens - r.Cached
		if c.Tokens > n || c.Tokens == 0 && n > 0 || c.Last != (c.Tokens == n) || c.Half < 0 || c.Half > 1 {
			s.tb.Fatalf("%+v with %d tokens left", c, n)
		}
		load[c.Rank] = load[c.Rank].plus(WorkOf(c.Tokens, r.Cached))
		r.Cached += c.Tokens
		s.left[c.ID], s.rank[c.ID] = r, c.Rank
		if c.Last {
			delete(s.left, c.ID)
			delete(s.rank, c.ID)
		}
	}
	var most Work
	for g, w := range load {
		if s.cfg.MaxTokens > 0 && w.Tokens > s.cfg.MaxTokens {
			s.tb.Fatalf("rank %d got %d tokens", g, w.Tokens)
		}
		most = Work{max(most.Tokens, w.Tokens), max(most.Pairs, w.Pairs)}
	}
	if len(chunks) > 0 {
		s.clock += b.cost.Seconds(most)
	}
	s.steps++
	return chunks, load
}

// TestStepDrains runs random queues dry, under every kind of configuration.
func TestStepDrains(t *testing.T) {
	long.OneGoroutine(t)
	n := 20
	if long.Tests() {
		n = 100
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(9, uint64(seed)))
		cfg := Config{Ranks: 1 + r.IntN(9), MaxTokens: []int64{0, 1, 100, 4096, 16384}[r.IntN(5)]}
		size := int64(20000)
		if cfg.MaxTokens == 1 || cfg.MaxTokens == 100 {
			size = 20 * cfg.MaxTokens
		}
		switch r.IntN(5) {
		case 0:
			cfg.Cost = Cost{Pair: 1e-8}
		case 1:
			cfg.Cost = Cost{Token: 1e-4, Step: .01}
		case 2:
			cfg.Cost = Cost{Pair: 1e-8, Token: 1e-4, Step: .02, Prefix: 2e-6}
		}
		if r.IntN(3) == 0 {
			cfg.MaxKV = []int64{size + r.Int64N(size)}
		}
		b := newUnit(t, cfg)
		s := newShadow(t, cfg)
		id := ID(0)
		for round := range 30 {
			if round < 20 {
				for range r.IntN(3 * cfg.Ranks) {
					q := Request{ID: id, Tokens: 1 + r.Int64N(1+r.Int64N(size))}
					switch r.IntN(4) {
					case 0:
						q.Cached = r.Int64N(q.Tokens + 1)
					case 1:
						q.CachedAt = make([]int64, cfg.Ranks)
						for g := range q.CachedAt {
							q.CachedAt[g] = r.Int64N(q.Tokens + 1)
						}
					}
					s.add(b, q)
					id++
				}
			}
			if g := r.IntN(cfg.Ranks); r.IntN(4) == 0 {
				if err := b.Drain(g); err != nil {
					t.Fatal(err)
				}
			}
			s.step(b)
			check(t, b)
		}
		for g := range cfg.Ranks {
			if err := b.Restore(g); err != nil {
				t.Fatal(err)
			}
		}
		for empty := 0; len(s.left) > 0; {
			if chunks, _ := s.step(b); len(chunks) == 0 {
				if empty++; empty > 0 {
					t.Fatalf("seed %d: %+v: an empty step with %d requests left", seed, cfg, len(s.left))
				}
			}
		}
		check(t, b)
		b.forget()
		if b.total != (Work{}) || b.bound != (Work{}) || b.Queued() != 0 {
			t.Fatalf("seed %d: %+v and %+v remain", seed, b.total, b.bound)
		}
	}
}

// TestSharersWait: a request that shares a prefix with one that is being computed
// starts when that is done, with the prefix cached, and not before.
func TestSharersWait(t *testing.T) {
	for _, local := range []bool{false, true} {
		cfg := Config{Ranks: 4, MaxTokens: 2048}
		b := newUnit(t, cfg)
		lead := Request{ID: 1, Tokens: 9000}
		share := Request{ID: 2, Tokens: 10000, Leader: 1, Shared: 8704}
		if local {
			lead.CachedAt, share.CachedAt = make([]int64, 4), make([]int64, 4)
		}
		enqueue(t, b, lead, share, Request{ID: 3, Tokens: 100, Leader: 77, Shared: 50})
		rank, shared, third := -1, int64(0), false
		for range 100 {
			ended := false
			for _, c := range b.Step(nil) {
				switch c.ID {
				case 1:
					rank, ended = c.Rank, c.Last
				case 2:
					if _, known := b.progress(1); known {
						t.Fatal("the sharer runs beside its leader")
					}
					if shared += c.Tokens; local && c.Rank != rank {
						t.Fatalf("the sharer runs on rank %d, its prefix is on %d", c.Rank, rank)
					}
				case 3:
					third = true
				}
			}
			if ended && !third {
				t.Fatal("an unknown leader was waited for")
			}
		}
		if shared != 10000-8704 {
			t.Errorf("local %v: the sharer computed %d tokens", local, shared)
		}
		// a leader that is cancelled is waited for no longer
		enqueue(t, b, Request{ID: 1, Tokens: 9000}, Request{ID: 2, Tokens: 9500, Leader: 1, Shared: 8704})
		if err := b.Done(1); err != nil {
			t.Fatal(err)
		}
		if c := b.Step(nil); len(c) != 1 || c[0].ID != 2 {
			t.Errorf("after the leader was cancelled: %+v", c)
		}
	}
}

func (b *Balancer) progress(id ID) (*request, bool) {
	if s := b.ids.Find(uint64(id)); s >= 0 {
		return &b.requests[s], true
	}
	return nil, false
}

// TestSharersWaitForNoneThatDoNotStart: who waits for the prefix of a prompt that no rank in
// service may take waits as long as those who are there would for its being computed again,
// however many come after.
func TestSharersWaitForNoneThatDoNotStart(t *testing.T) {
	cfg := Config{Ranks: 2, MaxTokens: 4096}
	b := newUnit(t, cfg)
	if err := b.Drain(1); err != nil {
		t.Fatal(err)
	}
	s := newShadow(t, cfg)
	s.add(b, Request{ID: 1, Tokens: 3500, Among: []int{1}})
	s.add(b, Request{ID: 2, Tokens: 3500, Leader: 1, Shared: 3000})
	for id := ID(10); ; {
		for range 20 { // twice as much as the rank can do
			s.add(b, Request{ID: id, Tokens: 300 + int64(id)%400})
			id++
		}
		s.step(b)
		if _, waits := s.left[2]; !waits {
			break
		}
		if s.clock > 30 {
			t.Fatalf("a prompt of 3,500 tokens still waits after %.1f s for one that does not start", s.clock)
		}
	}
}

// TestKVLimit: the prompts that a rank has started never exceed its room, a
// prompt that fits no rank is refused, and one that fits gets its turn.
func TestKVLimit(t *testing.T) {
	cfg := Config{Ranks: 3, MaxTokens: 1024, MaxKV: []int64{10000}}
	b := newUnit(t, cfg)
	if err := b.Enqueue(Request{ID: 1, Tokens: 10001}); err == nil {
		t.Error("a prompt beyond a rank's room was taken")
	}
	s := newShadow(t, cfg)
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 400 {
		s.add(b, Request{ID: ID(i), Tokens: 1 + r.Int64N(10000)})
	}
	for len(s.left) > 0 {
		s.step(b)
		for g := range b.ranks {
			if b.ranks[g].kv > cfg.MaxKV[0] {
				t.Fatalf("rank %d holds %d tokens", g, b.ranks[g].kv)
			}
		}
		if s.steps > 5000 {
			t.Fatal("it does not end")
		}
	}
}

// TestRoomIsKept: a prompt that needs nearly all of a rank's KV has its turn though
// others, which need less, come all the time.
func TestRoomIsKept(t *testing.T) {
	b := newUnit(t, Config{Ranks: 1, MaxTokens: 1000, MaxKV: []int64{10_000}})
	const large = ID(1 << 40)
	next := ID(0)
	for step := 0; ; step++ {
		for b.Queued() < 12 {
			tokens := int64(2000) // each ends in a step with the first 600 of the next
			if next == 0 {
				tokens = 1400
			}
			enqueue(t, b, Request{ID: next, Tokens: tokens})
			next++
		}
		if step == 20 {
			enqueue(t, b, Request{ID: large, Tokens: 9500})
		}
		for _, c := range b.Step(nil) {
			if c.ID == large {
				return
			}
		}
		if step > 2000 {
			t.Fatal("it has not begun after 2,000 steps")
		}
	}
}

// TestGoesToItsCache: a prompt that a rank has nearly all of, which may compute nothing
// in this step, waits for the next rather than begin anew on another.
func TestGoesToItsCache(t *testing.T) {
	b := newUnit(t, Config{Ranks: 2, MaxTokens: 4000})
	enqueue(t, b, Request{ID: 1, Tokens: 3000, CachedAt: []int64{0, 2900}}, Request{ID: 2, Tokens: 500, CachedAt: []int64{0, 0}})
	left := []Budget{{Tokens: 4000, Seconds: 1}, {}}
	for step, want := range [][2]int{{2, 0}, {1, 1}} {
		chunks, err := b.StepWithin(nil, left)
		if err != nil || len(chunks) != 1 || chunks[0].ID != ID(want[0]) || chunks[0].Rank != want[1] {
			t.Fatalf("step %d: %+v, %v", step, chunks, err)
		}
		left[1] = left[0]
	}
}

// TestSpreadsAPopularPrefix: where one rank caches what more want than it can serve, those
// that would wait longer than the prefix takes start elsewhere at once, and no more of them.
func TestSpreadsAPopularPrefix(t *testing.T) {
	b := newUnit(t, Config{Ranks: 8, MaxTokens: 2048})
	for id := range ID(20) {
		enqueue(t, b, Request{ID: id, Tokens: 4000, CachedAt: []int64{0, 3000, 0, 0, 0, 0, 0, 0}})
	}
	on := map[int]int{}
	for _, c := range b.Step(nil) {
		on[c.Rank]++
	}
	if on[1] != 2 || len(on) != 8 {
		t.Errorf("prompts on ranks: %v", on)
	}
	b = newUnit(t, Config{Ranks: 8, MaxTokens: 2048})
	for id := range ID(3) {
		enqueue(t, b, Request{ID: id, Tokens: 4000, CachedAt: []int64{0, 3000, 0, 0, 0, 0, 0, 0}})
	}
	for _, c := range b.Step(nil) {
		if c.Rank != 1 {
			t.Errorf("%+v leaves its cache", c)
		}
	}
}

// TestLeavesARankThatNeverComputes: nobody waits for a cache longer than its prefix is
// worth where the rank may compute nothing.
func TestLeavesARankThatNeverComputes(t *testing.T) {
	b := newUnit(t, Config{Ranks: 2, MaxTokens: 4000})
	enqueue(t, b, Request{ID: 0, Tokens: 3000, CachedAt: []int64{0, 2900}})
	for id := ID(1); ; id++ {
		if id == 20 {
			t.Fatal("it waits for a rank that never computes")
		}
		enqueue(t, b, Request{ID: id, Tokens: 500})
		chunks, err := b.StepWithin(nil, []Budget{{Tokens: 4000, Seconds: 1}, {}})
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(chunks, func(c Chunk) bool { return c.ID == 0 }); i >= 0 {
			if id < 3 {
				t.Errorf("step %d: it has not waited", id)
			}
			return
		}
	}
}

// TestDrainedRankGoesOn: what has started on a rank that takes nothing new has full steps.
func TestDrainedRankGoesOn(t *testing.T) {
	b := newUnit(t, Config{Ranks: 1, MaxTokens: 1000})
	enqueue(t, b, Request{ID: 1, Tokens: 5000})
	b.Step(nil)
	if err := b.Drain(0); err != nil {
		t.Fatal(err)
	}
	for b.Stats().Requests > 0 {
		if c := b.Step(nil); len(c) != 1 || c[0].Tokens < 500 {
			t.Fatalf("%+v", c)
		}
	}
}

// TestNoTimeLeft: a rank that has no time for the smallest chunk gets none.
func TestNoTimeLeft(t *testing.T) {
	b := newUnit(t, Config{Ranks: 1, MaxTokens: 1000})
	enqueue(t, b, Request{ID: 1, Tokens: 5000})
	if c, err := b.StepWithin(nil, []Budget{{Tokens: 1000, Seconds: b.cost.Token / 2}}); err != nil || len(c) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestHalvesAreEven: a rank's micro-batches carry about the same attention.
func TestHalvesAreEven(t *testing.T) {
	cfg := Config{Ranks: 2, MaxTokens: 16384}
	b := newUnit(t, cfg)
	r := rand.New(rand.NewPCG(5, 5))
	for i := range 200 {
		enqueue(t, b, Request{ID: ID(i), Tokens: 500 + r.Int64N(1500)})
	}
	var pairs [2][2]int64
	for _, c := range b.Step(nil) {
		pairs[c.Rank][c.Half] += pairsOf(c.Tokens, 0)
	}
	for g, p := range pairs {
		if d := p[0] - p[1]; max(d, -d)*4 > p[0]+p[1] {
			t.Errorf("rank %d: halves of %d and %d pairs", g, p[0], p[1])
		}
	}
}

// TestNamesDoNotMatter: other ids give the same steps.
func TestNamesDoNotMatter(t *testing.T) {
	run := func(name func(int) ID, back func(ID) int) (out []Chunk) {
		r := rand.New(rand.NewPCG(11, 4))
		b := newUnit(t, Config{Ranks: 5, MaxTokens: 4096})
		for i := range 300 {
			q := Request{ID: name(i), Tokens: 1 + r.Int64N(1+r.Int64N(30000))}
			q.Cached = r.Int64N(q.Tokens)
			enqueue(t, b, q)
			if i%7 == 0 {
				out = b.Step(out)
			}
		}
		for len(out) < 100000 && b.total.Tokens > 0 {
			out = b.Step(out)
		}
		for i := range out {
			out[i].ID = ID(back(out[i].ID))
		}
		return out
	}
	plain := run(func(i int) ID { return ID(i) }, func(id ID) int { return int(id) })
	other := run(func(i int) ID { return 1<<40 - 7919*ID(i) }, func(id ID) int { return int((1<<40 - id) / 7919) })
	if d := cmp.Diff(plain, other); d != "" {
		t.Error(d)
	}
}

// TestStepAllocatesNothing in the steady state.
func TestStepAllocatesNothing(t *testing.T) {
	b := newUnit(t, Config{Ranks: 8, MaxTokens: 4096})
	r := rand.New(rand.NewPCG(2, 2))
	id := ID(0)
	var dst []Chunk
	turn := func() {
		for range 12 {
			enqueue(t, b, Request{ID: id, Tokens: 1 + r.Int64N(5000)})
			id++
		}
		dst = b.Step(dst[:0])
	}
	for range 500 {
		turn()
	}
	if n := testing.AllocsPerRun(200, turn); n > 0 {
		t.Errorf("%v allocations a step", n)
	}
}
