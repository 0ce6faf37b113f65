package decode

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/decode/internal/levels"
)

func newBalancer(tb testing.TB, cfg Config) *Balancer {
	tb.Helper()
	b, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

var lastID ID

// add places a request under an id that no other test uses.
func add(b *Balancer, r Request) (ID, int, error) {
	lastID++
	r.ID = lastID
	g, err := b.Add(r)
	return r.ID, g, err
}

// enter puts a request on a rank.
func enter(tb testing.TB, b *Balancer, r Request, g int) ID {
	tb.Helper()
	lastID++
	r.ID = lastID
	if err := b.Enter(r, g); err != nil {
		tb.Fatal(err)
	}
	return r.ID
}

// recompute checks every figure of the ledger against the requests themselves,
// and the sets of ranks against their order.
func recompute(tb testing.TB, b *Balancer) {
	tb.Helper()
	remodel(tb, b)
	running, waits := 0, 0
	sumBase, sumWidth, active := int64(0), int64(0), int64(0)
	for g := range b.ranks {
		k := &b.ranks[g]
		kv, width, outputs, waiting, held := int64(0), int64(0), int64(0), int64(0), map[int32]int64{}
		for at, i := range k.members {
			q := &b.requests[i]
			if int(q.rank) != g || int(q.at) != at {
				tb.Fatalf("rank %d: member %d says it is %d of rank %d", g, at, q.at, q.rank)
			}
			kv += q.kv(b.clock) - q.shared
			width += int64(q.width)
			if q.told {
				outputs += q.output
			}
			running++
			if q.waiting {
				waiting += int64(q.width)
				waits++
			}
			if b.ids.Find(uint64(q.id)) != i {
				tb.Fatalf("request %d is in slot %d, not %d", q.id, i, b.ids.Find(uint64(q.id)))
			}
			if q.prefix >= 0 {
				held[q.prefix] = max(held[q.prefix], q.shared)
			}
		}
		for p, shared := range held {
			x := &b.prefixes.slots[p]
			if at, ok := x.on(g); !ok || x.copies[at].tokens != shared {
				tb.Fatalf("rank %d: %+v, its requests share %d", g, x, shared)
			}
			kv += shared
		}
		if f := k.forecast; f != nil && f.at == b.lives.version && f.bound < unlimited {
			var now forecast
			b.foresee(g, &now)
			for j := range horizons {
				if x := now.mean[j] + now.deviations*math.Sqrt(now.variance[j]); x > f.bound {
					tb.Fatalf("rank %d: expected to hold %v, and thought never to hold more than %v", g, x, f.bound)
				}
			}
		}
		if waiting != k.waiting {
			tb.Fatalf("rank %d: %d wait, its requests %d", g, k.waiting, waiting)
		}
		if b.cfg.Routers == 0 && (b.kv(g) != kv || k.width != width) || k.outputs != outputs {
			tb.Fatalf("rank %d: ledger %d tokens, %d wide, %d to come; its requests %d, %d, %d", g, b.kv(g), k.width, k.outputs, kv, width, outputs)
		}
		if k.open() {
			active++
			sumBase += b.base[g]
			sumWidth += k.width
		}
	}
	if waits != b.waiting {
		tb.Fatalf("%d wait, %d requests do", b.waiting, waits)
	}
	if running+len(b.free) != len(b.requests) {
		tb.Fatalf("%d running and %d free of %d", running, len(b.free), len(b.requests))
	}
	if active != b.active || sumBase != b.sumBase || sumWidth != b.sumWidth {
		tb.Fatalf("sums %d %d %d, the ranks' are %d %d %d", b.active, b.sumBase, b.sumWidth, active, sumBase, sumWidth)
	}
	held := int64(0)
	for _, set := range []*levels.Levels{b.mine, b.others} {
		if set == nil {
			continue
		}
		for at, w := range set.Widths {
			last := int64(math.MinInt64)
			for r := range set.Ascending(set.Roots[at]) {
				if b.ranks[r].width != w || !b.ranks[r].open() || b.base[r] < last {
					tb.Fatalf("width %d: rank %d of width %d and base %d after one of %d", w, r, b.ranks[r].width, b.base[r], last)
				}
				last = b.base[r]
				held++
			}
		}
	}
	if held != active {
		tb.Fatalf("%d ranks in the sets, %d serve", held, active)
	}
}

// churn does random operations, and calls after with each one's number.
type churn struct {
	r     *rand.Rand
	b     *Balancer
	ids   []ID
	alike bool // of one length but for a few giants, and ranks take turns
}

func (c *churn) request() Request {
	q := Request{ID: ID(c.r.Uint64()), KV: c.r.Int64N(8000)}
	if c.r.IntN(16) == 0 {
		q.KV *= 8
	}
	if c.alike {
		if q.KV = 2000; c.r.IntN(64) == 0 {
			q.KV *= 100
		}
	}
	if c.r.IntN(3) == 0 {
		q.Output = c.r.Int64N(500)
	}
	if c.r.IntN(8) == 0 {
		q.Width = 1 + c.r.IntN(3)
	}
	return q
}

// one does one operation and returns what came of it, as a list of figures.
func (c *churn) one(tb testing.TB) (out []int) {
	b := c.b
	switch n := c.r.IntN(100); {
	case n < 40 && len(c.ids) < 4000:
		q := c.request()
		g, err := b.Add(q)
		if err != nil && !errors.Is(err, ErrNever) {
			tb.Fatal(err)
		}
		if g >= 0 {
			c.ids = append(c.ids, q.ID)
		}
		return []int{g}
	case n < 45 && len(c.ids) < 4000:
		batch := make([]Request, c.r.IntN(12))
		for i := range batch {
			batch[i] = c.request()
		}
		got, err := b.Batch(nil, batch)
		if err != nil && !errors.Is(err, ErrNever) {
			tb.Fatal(err)
		}
		for i, g := range got {
			out = append(out, g)
			if g >= 0 {
				c.ids = append(c.ids, batch[i].ID)
			}
		}
	case n < 80 && len(c.ids) > 0:
		c.end(tb, c.r.IntN(len(c.ids)))
	case n < 84 && len(c.ids) > 0:
		id := c.ids[c.r.IntN(len(c.ids))]
		kv, err := b.KV(id)
		if err == nil {
			err = b.Grow(id, c.r.Int64N(20)-min(kv, 3))
		}
		if err != nil {
			tb.Fatal(err)
		}
	case n < 90:
		if b.Step(); c.alike {
			b.model.chosen = whenAlike
		}
	case n < 92:
		moves, err := b.Rebalance(nil, c.r.IntN(3))
		if err != nil {
			tb.Fatal(err)
		}
		for _, m := range moves {
			out = append(out, m.From, m.To, int(m.KV))
		}
	case n == 92:
		if err := b.Drain(c.r.IntN(len(b.ranks))); err != nil && !errors.Is(err, ErrState) {
			tb.Fatal(err)
		}
	case n < 97:
		if err := b.Restore(c.r.IntN(len(b.ranks))); err != nil {
			tb.Fatal(err)
		}
	case n == 97 && c.r.IntN(50) == 0:
		lost, err := b.Dead(nil, c.r.IntN(len(b.ranks)))
		if err != nil {
			tb.Fatal(err)
		}
		for _, l := range lost {
			out = append(out, int(l.KV), int(l.Output))
			c.ids = slices.DeleteFunc(c.ids, func(id ID) bool { return id == l.ID })
		}
	case n == 98 && c.r.IntN(50) == 0:
		if err := b.Resize(max(1, len(b.ranks)+c.r.IntN(5)-2)); err != nil && !errors.Is(err, ErrState) {
			tb.Fatal(err)
		}
	}
	return out
}

func (c *churn) end(tb testing.TB, i int) {
	if err := c.b.Done(c.ids[i]); err != nil {
		tb.Fatal(err)
	}
	c.ids[i] = c.ids[len(c.ids)-1]
	c.ids = c.ids[:len(c.ids)-1]
}

// TestLedger: over a million random operations on each unit every figure is what the requests
// add up to, and when all have gone it is zero exactly.
func TestLedger(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	for _, cfg := range []Config{{Ranks: 12}, {Ranks: 9, KVCapacity: []int64{1_200_000}, MaxRequests: 150}} {
		c := churn{r: rand.New(rand.NewPCG(1, 2)), b: newBalancer(t, cfg)}
		for i := range n {
			c.one(t)
			if i%997 == 0 {
				recompute(t, c.b)
			}
		}
		for len(c.ids) > 0 {
			c.end(t, len(c.ids)-1)
		}
		recompute(t, c.b)
		for g := range c.b.ranks {
			if c.b.kv(g) != 0 || c.b.base[g] != 0 || c.b.ranks[g].width != 0 || c.b.ranks[g].outputs != 0 || c.b.ranks[g].guesses != 0 {
				t.Fatalf("rank %d is left with %d tokens and %d requests", g, c.b.kv(g), c.b.ranks[g].width)
			}
		}
	}
}

// TestTreeAgreesWithScan: the sets find exactly the rank that looking at every
// rank finds.
func TestTreeAgreesWithScan(t *testing.T) {
	queries := 80_000
	if testing.Short() {
		queries = 8_000
	}
	for n := range 8 {
		cfg := []Config{{Ranks: 40}, {Ranks: 17, MaxRequests: 60, Cost: Cost{Request: 1}}, {Ranks: 33, Cost: Cost{KV: 1}}, {Ranks: 9, KVCapacity: []int64{400_000}}}[n%4]
		c := churn{r: rand.New(rand.NewPCG(3, 4)), b: newBalancer(t, cfg), alike: n >= 4}
		refused, queries := 0, queries/2
		if cfg.KVCapacity != nil {
			queries /= 4     // each looks at every rank
			for range 4000 { // until it is full
				c.one(t)
			}
		}
		for i := range queries {
			c.one(t)
			r := &each[i%rules]
			if c.b.active == 0 {
				continue
			}
			q, _ := c.b.check(c.request(), -1)
			batch := int64(q.Width + i%50)
			l := c.b.level(r, q.KV, int64(q.Width), batch)
			got := c.b.place(r, &q, batch)
			if got < 0 && c.b.hopeless(&q) { // what was refused is, until a rank gets room
				c.b.room()
				got = c.b.place(r, &q, batch)
			}
			want := c.b.scan(&l, &q).rank
			if got != want {
				t.Fatalf("query %d: %+v goes to %d, a scan finds %d", i, q, got, want)
			}
			if got < 0 {
				refused++
			}
		}
		if cfg.KVCapacity != nil && (refused < queries/10 || refused > queries*9/10) {
			t.Errorf("%d of %d are refused: hardly a test", refused, queries)
		}
	}
}

// TestRanksAreAlike: with the ranks numbered otherwise, and no ties, requests go
// to the same ranks under their other number.
func TestRanksAreAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		n := 2 + r.IntN(20)
		order := r.Perm(n)
		a, b := newBalancer(t, Config{Ranks: n}), newBalancer(t, Config{Ranks: n})
		for g := range n {
			for range 1 + r.IntN(5) {
				q := Request{KV: r.Int64N(1 << 20)}
				enter(t, a, q, g)
				enter(t, b, q, order[g])
			}
		}
		for range 50 {
			q := Request{KV: r.Int64N(1 << 20)}
			_, g, err := add(a, q)
			_, h, err2 := add(b, q)
			if err != nil || err2 != nil || order[g] != h {
				t.Fatalf("%d ranks: rank %d, and %d where it is %d", n, g, h, order[g])
			}
		}
	}
}

// TestErrorsChangeNothing: after each bad call the state is what it was, byte for
// byte.
func TestErrorsChangeNothing(t *testing.T) {
	c := churn{r: rand.New(rand.NewPCG(7, 8)), b: newBalancer(t, Config{Ranks: 8, KVCapacity: []int64{1 << 20}})}
	for range 2000 {
		c.one(t)
	}
	b := c.b
	id := c.ids[0]
	gone := c.ids[1]
	c.end(t, 1)
	if err := b.Restore(0); err != nil {
		t.Fatal(err)
	}
	before := b.AppendSnapshot(nil)
	for _, bad := range []struct {
		name string
		kind error
		call func() error
	}{
		{"KV below 0", ErrValue, func() error { _, err := b.Add(Request{KV: -1}); return err }},
		{"KV too large", ErrValue, func() error { _, err := b.Add(Request{KV: MaxTokens + 1}); return err }},
		{"output below 0", ErrValue, func() error { _, err := b.Add(Request{Output: -1}); return err }},
		{"width too large", ErrValue, func() error { _, err := b.Add(Request{Width: MaxWidth + 1}); return err }},
		{"a bad one in a batch", ErrValue, func() error { _, err := b.Batch(nil, []Request{{KV: 1}, {KV: -1}}); return err }},
		{"generated below 0", ErrValue, func() error { _, err := b.Add(Request{Generated: -1}); return err }},
		{"shared beyond KV", ErrValue, func() error { _, err := b.Add(Request{KV: 5, Shared: 6}); return err }},
		{"among beyond", ErrValue, func() error { _, err := b.Add(Request{Among: []int{0, 8}}); return err }},
		{"among nobody", ErrNever, func() error { _, err := b.Add(Request{Among: []int{}}); return err }},
		{"never", ErrNever, func() error { _, err := b.Add(Request{KV: 1 << 20, Output: 1}); return err }},
		{"never in a batch", ErrNever, func() error { _, err := b.Batch(nil, []Request{{KV: 1}, {ID: 1, KV: 1 << 20}}); return err }},
		{"known", ErrKnown, func() error { _, err := b.Add(Request{ID: id}); return err }},
		{"known in a batch", ErrKnown, func() error { _, err := b.Batch(nil, []Request{{ID: gone}, {ID: id}}); return err }},
		{"twice in a batch", ErrKnown, func() error { _, err := b.Batch(nil, []Request{{ID: gone}, {ID: gone}}); return err }},
		{"a quote of what is known", ErrKnown, func() error { _, err := b.Quote(Request{ID: id}); return err }},
		{"enter what is known", ErrKnown, func() error { return b.Enter(Request{ID: id}, 0) }},
		{"enter beyond", ErrValue, func() error { return b.Enter(Request{ID: gone}, 8) }},
		{"move what is gone", ErrUnknown, func() error { return b.Move(gone, 0) }},
		{"move beyond", ErrValue, func() error { return b.Move(id, 8) }},
		{"start what runs", ErrState, func() error { return b.Start(id) }},
		{"cancel what is gone", ErrUnknown, func() error { return b.Cancel(gone) }},
		{"evict what is gone", ErrUnknown, func() error { return b.Evict(gone) }},
		{"grow many, one gone", ErrUnknown, func() error { return b.GrowAll([]Growth{{id, 5}, {gone, 1}}) }},
		{"grow many, one to less than its prompt, one gone", ErrUnknown, func() error {
			q := &b.requests[b.ids.Find(uint64(id))]
			return b.GrowAll([]Growth{{id, q.shared - q.kv(b.clock)}, {id, 7}, {gone, 1}})
		}},
		{"grow one twice, too far", ErrValue, func() error { return b.GrowAll([]Growth{{id, 5}, {id, MaxTokens}}) }},
		{"generated too many", ErrValue, func() error { return b.Generated(id, MaxTokens+1) }},
		{"sync an id twice", ErrKnown, func() error { _, err := b.Sync(Changes{}, 0, []Request{{ID: gone}, {ID: gone}}); return err }},
		{"sync a bad one", ErrValue, func() error {
			_, err := b.Sync(Changes{}, 0, []Request{{ID: id, KV: 5}, {ID: gone, KV: -1}})
			return err
		}},
		{"sync beyond", ErrValue, func() error { _, err := b.Sync(Changes{}, 8, nil); return err }},
		{"done twice", ErrUnknown, func() error { return b.Done(gone) }},
		{"no ID", ErrUnknown, func() error { return b.Done(gone + 1) }},
		{"an ID of nobody", ErrUnknown, func() error { return b.Done(math.MaxUint64) }},
		{"grow what is gone", ErrUnknown, func() error { return b.Grow(gone, 1) }},
		{"shrink below 0", ErrValue, func() error { return b.Grow(id, -MaxTokens) }},
		{"grow too far", ErrValue, func() error { return b.Grow(id, math.MaxInt64) }},
		{"negative moves", ErrValue, func() error { _, err := b.Rebalance(nil, -1); return err }},
		{"drain beyond", ErrValue, func() error { return b.Drain(len(b.ranks)) }},
		{"restore below 0", ErrValue, func() error { return b.Restore(-1) }},
		{"a dead rank beyond", ErrValue, func() error { _, err := b.Dead(nil, 1<<30); return err }},
		{"no ranks", ErrValue, func() error { return b.Resize(0) }},
		{"too few ranks", ErrState, func() error { return b.Resize(1) }},
		{"a report to the only router", ErrState, func() error { return b.Report(Report{}) }},
	} {
		err := bad.call()
		var typed *Error
		if !errors.As(err, &typed) || !errors.Is(err, bad.kind) || typed.Field == "" {
			t.Errorf("%s: %v", bad.name, err)
		}
		if !slices.Equal(before, b.AppendSnapshot(nil)) {
			t.Fatalf("%s: the state has changed", bad.name)
		}
	}
	for _, cfg := range []Config{{}, {Ranks: -1}, {Ranks: MaxRanks + 1}, {Ranks: 1, KVCapacity: []int64{-1}}, {Ranks: 1, Cost: Cost{KV: math.NaN()}}, {Ranks: 1, Cost: Cost{Step: 1}}, {Ranks: 1, Routers: 2, Router: 2}, {Ranks: 1, Link: math.Inf(1)}} {
		if b, err := New(cfg); !errors.Is(err, ErrValue) || b != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// TestAllocates: the hot path allocates nothing.
func TestAllocates(t *testing.T) {
	for _, alike := range []bool{false, true} {
		b := newBalancer(t, Config{Ranks: 144, KVCapacity: []int64{550_000}})
		r := rand.New(rand.NewPCG(9, 10))
		var ids [144 * 80]ID
		next, id := 0, ID(0)
		turn := func() {
			if ids[next] != 0 {
				if err := b.Done(ids[next]); err != nil {
					t.Fatal(err)
				}
			}
			id++
			q := Request{ID: id, KV: 1000 + r.Int64N(8000)}
			if alike {
				q.KV, b.model.chosen = 5000, whenAlike
			}
			if g, err := b.Add(q); err != nil || g < 0 {
				t.Fatal(g, err)
			}
			if err := b.Grow(id, 3); err != nil {
				t.Fatal(err)
			}
			ids[next] = id
			if next = (next + 1) % len(ids); next%64 == 0 {
				b.Step()
			}
		}
		for range 4 * len(ids) {
			turn()
		}
		if n := testing.AllocsPerRun(20_000, turn); n != 0 {
			t.Errorf("alike %v: %v allocations a request", alike, n)
		}
	}
}

// TestTurns: where all are alike, no rank is favoured in the long run, whoever is drained
// and whether others serve behind it or not; a rank that is taken away has no turn.
func TestTurns(t *testing.T) {
	for _, away := range [][]int{nil, {2, 3}, {0, 7}} {
		u := traffic{b: newBalancer(t, Config{Ranks: 8}), r: rand.New(rand.NewPCG(51, 52)), draw: lognormal(2000, 0, 2000, 40)}
		for _, g := range away {
			if err := u.b.Drain(g); err != nil {
				t.Fatal(err)
			}
		}
		u.start(t, 20)
		const steps = 4000
		for range steps {
			u.step(t, 1)
			u.b.model.chosen = whenAlike
		}
		share := float64(u.last) / float64(8-len(away))
		for g := range u.b.ranks {
			n := float64(u.b.ranks[g].reported.placed)
			if slices.Contains(away, g) != (n == 0) || n > 0 && math.Abs(n/share-1) > 0.03 {
				t.Errorf("of %d requests rank %d was given %.0f, with %v away", u.last, g, n, away)
			}
		}
	}
	b := newBalancer(t, Config{Ranks: 5})
	enter(t, b, Request{KV: 10}, 3)
	if err := b.Done(b.Known(nil)[0]); err != nil {
		t.Fatal(err)
	}
	if err := b.Resize(3); err != nil {
		t.Fatal(err)
	}
	if _, g, err := add(b, Request{KV: 10}); err != nil || g != 0 {
		t.Errorf("behind the last comes rank %d (%v)", g, err)
	}
	if _, err := FromSnapshot(b.AppendSnapshot(nil)); err != nil {
		t.Error(err)
	}
}
