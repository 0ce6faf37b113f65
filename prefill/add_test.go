package prefill

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestAddAllocatesNothing(t *testing.T) {
	for _, ranks := range []int{32, 1024} {
		for _, local := range []bool{false, true} {
			u := steady(t, ranks, local)
			if n := testing.AllocsPerRun(200, func() { u.turn(t) }); n > 0 {
				t.Errorf("%d ranks: %v allocations a request", ranks, n)
			}
		}
	}
}

// TestAddBalances compares both loads with the mean, on prompts of very
// different density.
func TestAddBalances(t *testing.T) {
	const ranks = 16
	b := newUnit(t, Config{Ranks: ranks})
	r := rand.New(rand.NewPCG(6, 6))
	var sum Work
	for i := range ID(4000) {
		q := Request{ID: i, Tokens: 200 + r.Int64N(1500)}
		if r.IntN(20) == 0 {
			q.Tokens = 10_000 + r.Int64N(30_000)
		}
		sum = sum.plus(WorkOf(q.Tokens, 0))
		if _, err := b.Add(q); err != nil {
			t.Fatal(err)
		}
	}
	for g := range ranks {
		w := b.Rank(g).Work
		if float64(w.Tokens)*ranks > 1.05*float64(sum.Tokens) || float64(w.Pairs)*ranks > 1.12*float64(sum.Pairs) {
			t.Errorf("rank %d has %+v of %+v", g, w, sum)
		}
	}
}

func service(b *Balancer, g int, drained bool) {
	s := Serving
	if drained {
		s = Draining
	}
	b.become(g, s)
}

// TestAddFollowsRanks: with the ranks in another order, each request goes to
// the same rank under its other name.
func TestAddFollowsRanks(t *testing.T) {
	const ranks = 9
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(14, seed))
		perm := r.Perm(ranks)
		plain, other := newUnit(t, Config{Ranks: ranks}), newUnit(t, Config{Ranks: ranks})
		id := ID(0)
		assign := func(b *Balancer, q Request) int {
			g, err := b.Add(q)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		only := func(b *Balancer, g int) {
			for h := range ranks {
				service(b, h, h != g)
			}
		}
		for g := range ranks { // no two ranks alike
			q := Request{ID: id, Tokens: 2000 + 500*int64(g) + r.Int64N(500)}
			id++
			only(plain, g)
			only(other, perm[g])
			assign(plain, q)
			assign(other, q)
		}
		down := r.IntN(ranks)
		for h := range ranks {
			service(plain, h, h == down)
			service(other, perm[h], h == down)
		}
		for range 200 {
			q := Request{ID: id, Tokens: 100 + r.Int64N(6000)}
			p := q
			id++
			if r.IntN(2) == 0 {
				q.CachedAt, p.CachedAt = make([]int64, ranks), make([]int64, ranks)
				for g := range ranks {
					q.CachedAt[g] = r.Int64N(q.Tokens)
					p.CachedAt[perm[g]] = q.CachedAt[g]
				}
			}
			if g, h := assign(plain, q), assign(other, p); h != perm[g] {
				t.Fatalf("seed %d, request %d: rank %d, and %d instead of %d", seed, id, g, h, perm[g])
			}
		}
	}
}

// TestAddLeavesDrainedRanks alone, and comes back to them.
func TestAddLeavesDrainedRanks(t *testing.T) {
	b := newUnit(t, Config{Ranks: 3})
	if err := b.Drain(1); err != nil {
		t.Fatal(err)
	}
	seen := [3]int{}
	place := func(from, to ID) {
		for i := from; i < to; i++ {
			g, err := b.Add(Request{ID: i, Tokens: 100})
			if err != nil {
				t.Fatal(err)
			}
			seen[g]++
		}
	}
	place(0, 20)
	if seen[1] != 0 {
		t.Fatalf("the drained rank got %d requests", seen[1])
	}
	if err := b.Restore(1); err != nil {
		t.Fatal(err)
	}
	place(20, 25)
	if seen[1] != 5 {
		t.Errorf("the restored rank got %d of 5 requests", seen[1])
	}
}

// TestReport: a report adds what others have sent and takes off what is done, and
// an order that the rank had not seen yet stays counted.
func TestReport(t *testing.T) {
	b := newUnit(t, Config{Ranks: 2})
	assign := func(id ID, tokens int64) int {
		g, err := b.Add(Request{ID: id, Tokens: tokens})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	if g := assign(1, 1000); g != 0 {
		t.Fatalf("rank %d", g)
	}
	seen := b.Version(0)
	report := func(g int, version uint64, w Work) {
		if err := b.Report(Report{Rank: g, Version: version, Work: w}); err != nil {
			t.Fatal(err)
		}
		check(t, b)
	}
	// another router has sent 5,000 tokens to rank 1
	report(1, 0, WorkOf(5000, 0))
	if g := assign(2, 1000); g != 0 {
		t.Errorf("rank %d, though rank 1 has more", g)
	}
	// rank 0 has seen the first request only, and has done half of it
	report(0, seen, WorkOf(500, 500))
	if got, want := b.seenOf(0), WorkOf(500, 500).plus(WorkOf(1000, 0)); got != want {
		t.Errorf("rank 0 is taken to have %+v, not %+v", got, want)
	}
	// an older report changes nothing
	report(0, seen-1, WorkOf(90_000, 0))
	if got, want := b.seenOf(0), WorkOf(500, 500).plus(WorkOf(1000, 0)); got != want {
		t.Errorf("after an old report %+v, not %+v", got, want)
	}
	report(0, b.Version(0), Work{})
	if got := b.seenOf(0); got != (Work{}) {
		t.Errorf("an idle rank is taken to have %+v", got)
	}
}

// TestRoutersDoNotHerd lets four routers place on one unit, each hearing of the
// others only by reports that are late by many requests. With shares of their own
// they come near to one that sees all; without, all run to the same ranks.
func TestRoutersDoNotHerd(t *testing.T) {
	const ranks, routers = 32, 4
	run := func(shares bool, late int) float64 {
		bs := make([]*Balancer, routers)
		for i := range bs {
			cfg := Config{Ranks: ranks}
			if shares {
				cfg.Routers, cfg.Router = routers, i
			}
			bs[i] = newUnit(t, cfg)
		}
		type sent struct {
			id     ID
			router int
			rank   int
			work   Work
		}
		r := rand.New(rand.NewPCG(31, 2))
		truth := make([]Work, ranks)
		var running []sent
		var snapshot []Work
		versions := make([][]uint64, routers)
		over, samples := 0.0, 0
		for i := range ID(12000) {
			if int(i)%late == 0 { // what was read last time arrives; the ranks are read again
				for k, b := range bs {
					for g := range snapshot {
						if err := b.Report(Report{Rank: g, Version: versions[k][g], Work: snapshot[g]}); err != nil {
							t.Fatal(err)
						}
					}
					versions[k] = versions[k][:0]
					for g := range ranks {
						versions[k] = append(versions[k], b.Version(g))
					}
				}
				snapshot = append(snapshot[:0], truth...)
			}
			q := Request{ID: i, Tokens: 200 + r.Int64N(4000)}
			k := r.IntN(routers)
			g, err := bs[k].Add(q)
			if err != nil {
				t.Fatal(err)
			}
			w := WorkOf(q.Tokens, 0)
			truth[g] = truth[g].plus(w)
			running = append(running, sent{i, k, g, w})
			if len(running) > 12*ranks {
				j := r.IntN(len(running))
				x := running[j]
				running[j] = running[len(running)-1]
				running = running[:len(running)-1]
				truth[x.rank] = truth[x.rank].less(x.work)
				if err := bs[x.router].Done(x.id); err != nil {
					t.Fatal(err)
				}
			}
			if i > 3000 && i%10 == 0 {
				most, sum := int64(0), int64(0)
				for _, w := range truth {
					most, sum = max(most, w.Tokens), sum+w.Tokens
				}
				over += float64(most) * ranks / float64(sum)
				samples++
			}
		}
		return over / float64(samples)
	}
	for _, late := range []int{40, 160} {
		with, without := run(true, late), run(false, late)
		t.Logf("%d requests between reports: max/mean %.3f with shares, %.3f without", late, with, without)
		if with > without || with > 1.35 {
			t.Errorf("%d requests between reports: max/mean %.3f with shares, %.3f without", late, with, without)
		}
	}
}

// TestAddTakesTheLeast compares the rank that is taken with a search through all.
func TestAddTakesTheLeast(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for range 200 {
		cfg := Config{Ranks: 1 + r.IntN(70), Routers: 1 + r.IntN(2)}
		for range cfg.Ranks {
			cfg.Speed = append(cfg.Speed, []float64{1, 1, 2, 0}[r.IntN(4)])
		}
		if r.IntN(2) == 0 {
			cfg.Speed = nil
		}
		b := newUnit(t, cfg)
		for id := range ID(3 * cfg.Ranks) {
			q := Request{ID: id, Tokens: 1 + r.Int64N(9000), CachedAt: make([]int64, cfg.Ranks)}
			for range r.IntN(4) {
				q.CachedAt[r.IntN(cfg.Ranks)] = r.Int64N(q.Tokens + 1)
			}
			if r.IntN(3) == 0 {
				q.Cached, q.CachedAt = r.Int64N(q.Tokens+1), nil
			}
			pr := b.prices()
			best := choice{-1, math.Inf(1), 0}
			own := best
			for g := range b.ranks {
				b.consider(g, &q, &pr, &best, &own)
			}
			want := best.rank
			if cfg.Routers > 1 && own.rank >= 0 {
				p := q.cachedOn(want)
				if own.least <= best.least+b.cost.of(WorkOf(q.Tokens-p, p)) {
					want = own.rank
				}
			}
			if got, err := b.Add(q); err != nil || got != want {
				t.Fatalf("%+v on rank %d (%v), not %d", q, got, err, want)
			}
		}
	}
}

// TestStates: a rank's state in words, and that of none.
func TestStates(t *testing.T) {
	b, err := New(Config{Ranks: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Drain(1); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dead(nil, 2); err != nil {
		t.Fatal(err)
	}
	for g, want := range map[int]string{-1: "gone", 0: "serving", 1: "draining", 2: "dead", 3: "gone"} {
		if got := b.Rank(g).State.String(); got != want {
			t.Errorf("rank %d is %s, not %s", g, got, want)
		}
	}
}
