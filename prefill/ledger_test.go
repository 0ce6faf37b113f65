package prefill

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moelb/moelb/internal/long"
)

// check recomputes every ledger from the requests alone.
func check(tb testing.TB, b *Balancer) {
	tb.Helper()
	var total, bound Work
	type rank struct {
		work     Work
		kv       int64
		started  int64
		requests int
	}
	ranks := make([]rank, len(b.ranks))
	known, waiting, vacancies := 0, 0, 0
	for s := range b.requests {
		q := &b.requests[s]
		if q.state == vacant {
			vacancies++
			continue
		}
		if q.state == ended {
			bound = bound.plus(WorkOf(q.tokens, 0))
			continue
		}
		known++
		if b.ids.Find(uint64(q.id)) != int32(s) {
			tb.Fatalf("request %d is not found", q.id)
		}
		w := WorkOf(q.tokens-q.pos, q.pos)
		total, bound = total.plus(w), bound.plus(WorkOf(q.tokens, 0))
		if q.state == queued {
			waiting++
			if b.queue[q.place] != int32(s) || q.item >= 0 {
				tb.Fatalf("request %d is not in its place", q.id)
			}
			continue
		}
		k := &ranks[q.rank]
		k.work = k.work.plus(w)
		k.requests++
		k.kv += q.tokens
		if q.state == started {
			k.started += q.tokens
		}
	}
	if vacancies != len(b.free) || len(b.requests) != vacancies+known+len(b.ended) {
		tb.Fatalf("%d slots, %d vacant, %d known, %d ended; %d are free", len(b.requests), vacancies, known, len(b.ended), len(b.free))
	}
	for i, got := range b.blocks {
		if b.lookBlock(i); got != b.blocks[i] {
			tb.Fatalf("block %d of views: %v, not %v", i, got, b.blocks[i])
		}
	}
	for _, l := range b.levels {
		for _, h := range l.classes {
			for i := 1; i < len(h); i++ {
				if b.before(h[i], h[(i-1)/2]) {
					tb.Fatalf("a younger one is above %v", h[i])
				}
			}
		}
	}
	if known != b.ids.Len() || waiting != b.Queued() || total != b.total || bound != b.bound {
		tb.Fatalf("%d requests, %d queued, %+v in all; the ledger has %d, %d, %+v", known, waiting, total, b.ids.Len(), b.Queued(), b.total)
	}
	var seen Work
	for g := range ranks {
		k := &b.ranks[g]
		if ranks[g] != (rank{k.work, k.kv, k.startedKV, k.requests}) {
			tb.Fatalf("rank %d: %+v, the ledger has %+v, %d, %d", g, ranks[g], k.work, k.kv, k.requests)
		}
		if k.open {
			seen = seen.plus(b.seenOf(g))
		}
	}
	if seen != b.seen {
		tb.Fatalf("the views add up to %+v, not %+v", seen, b.seen)
	}
}

// TestLedgerUnderRandomOperations compares the ledgers with their recomputation
// after a million calls of every kind, good and bad.
func TestLedgerUnderRandomOperations(t *testing.T) {
	n := 100_000
	if long.Tests() {
		n = 1_000_000
	}
	r := rand.New(rand.NewPCG(21, 1))
	b := newUnit(t, Config{Ranks: 7, MaxTokens: 3000, MaxKV: []int64{40_000}, Patience: 3})
	var ids []ID
	var dst []Chunk
	next := ID(0)
	for i := range n {
		switch k := r.IntN(100); {
		case k < 30 && len(ids) < 400 || len(ids) == 0:
			q := Request{ID: next, Tokens: 1 + r.Int64N(1+r.Int64N(20_000))}
			if r.IntN(4) == 0 {
				q.CachedAt = make([]int64, 7)
				for g := range q.CachedAt {
					q.CachedAt[g] = r.Int64N(q.Tokens + 1)
				}
			} else {
				q.Cached = r.Int64N(q.Tokens + 1)
			}
			if r.IntN(3) == 0 {
				q.Leader, q.Shared = ids0(ids, r), r.Int64N(q.Tokens+1)
			}
			if err := b.Enqueue(q); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, next)
			next++
		case k < 45 && len(ids) < 400:
			q := Request{ID: next, Tokens: 1 + r.Int64N(20_000)}
			q.Cached = r.Int64N(q.Tokens + 1)
			if g, err := b.Add(q); err != nil {
				t.Fatal(err)
			} else if g >= 0 {
				ids = append(ids, next)
				next++
			}
		case k < 70:
			j := r.IntN(len(ids))
			err := b.Done(ids[j])
			if err != nil && !errors.Is(err, ErrUnknown) {
				t.Fatal(err)
			}
			ids[j] = ids[len(ids)-1]
			ids = ids[:len(ids)-1]
		case k < 75:
			_ = b.Drain(r.IntN(8))
		case k < 80:
			_ = b.Restore(r.IntN(8))
		case k < 84:
			_ = b.SetCached(ids0(ids, r), r.IntN(9)-1, r.Int64N(25_000))
		case k < 88:
			g := r.IntN(7)
			_ = b.Report(Report{Rank: g, Version: b.Version(g) - min(b.Version(g), r.Uint64N(50)), Work: Work{r.Int64N(1e6), r.Int64N(1e9)}})
		case k < 90:
			_ = b.Enqueue(Request{ID: ids0(ids, r), Tokens: r.Int64N(100) - 50, Cached: r.Int64N(100) - 50})
			ids = dropUnknown(b, ids)
		case k < 91:
			id := ids0(ids, r)
			if ended := b.Ended(nil); len(ended) > 0 && r.IntN(2) == 0 {
				id = ended[0] // free again
				if b.Enqueue(Request{ID: id, Tokens: 100}) == nil {
					ids = append(ids, id)
				}
			}
			if r.IntN(4) == 0 {
				g := r.IntN(7)
				_, _ = b.Dead(nil, g)
				_ = b.Restore(g)
			} else if g, err := b.Where(id); err == nil {
				tokens := 1 + r.Int64N(20_000)
				_, _ = b.Sync(Changes{}, max(g, 0), []Running{{ID: id, Tokens: tokens, Computed: r.Int64N(tokens + 1)}})
			}
			ids = dropUnknown(b, ids)
		default:
			dst = b.Step(dst[:0])
		}
		if i%5000 == 0 {
			check(t, b)
		}
	}
	check(t, b)
	for s := range b.requests {
		if q := &b.requests[s]; q.state != vacant && q.state != ended {
			if err := b.Done(q.id); err != nil {
				t.Fatal(err)
			}
		}
	}
	for g := range b.ranks {
		if k := &b.ranks[g]; k.work != (Work{}) || k.kv != 0 || k.requests != 0 || len(k.started) != 0 {
			t.Errorf("rank %d keeps %+v", g, k.work)
		}
	}
	b.forget()
	if b.total != (Work{}) || b.bound != (Work{}) || b.ids.Len() != 0 || b.Queued() != 0 {
		t.Errorf("%+v and %d requests remain", b.total, b.ids.Len())
	}
}

func ids0(ids []ID, r *rand.Rand) ID {
	if len(ids) == 0 {
		return 1 << 63
	}
	return ids[r.IntN(len(ids))]
}

// dropUnknown forgets the ids that the balancer does not know.
func dropUnknown(b *Balancer, ids []ID) []ID {
	k := 0
	for _, id := range ids {
		if b.ids.Find(uint64(id)) >= 0 {
			ids[k] = id
			k++
		}
	}
	return ids[:k]
}

// image is what must not change when a call fails.
func image(b *Balancer) any {
	type rank struct {
		Work, Others Work
		Requests     int
		State        State
		Version      uint64
		KV           int64
	}
	var ranks []rank
	for g := range b.ranks {
		k := &b.ranks[g]
		ranks = append(ranks, rank{k.work, k.others, k.requests, k.state, k.version, k.kv})
	}
	return struct {
		Total, Bound Work
		Known, Queue int
		Seq          int64
		Clock        float64
		Ranks        []rank
	}{b.total, b.bound, b.ids.Len(), b.Queued(), b.seq, b.clock, ranks}
}

func TestBadInput(t *testing.T) {
	b := newUnit(t, Config{Ranks: 2, MaxTokens: 4096, MaxKV: []int64{1 << 40}})
	enqueue(t, b, Request{ID: 1, Tokens: 100})
	if _, err := b.Add(Request{ID: 2, Tokens: 100}); err != nil {
		t.Fatal(err)
	}
	if err := b.Done(2); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		call func() error
		kind error
	}{
		"unknown id":          {func() error { return b.Done(9) }, ErrUnknown},
		"done twice":          {func() error { return b.Done(2) }, ErrUnknown},
		"add twice":           {func() error { return b.Enqueue(Request{ID: 1, Tokens: 5}) }, ErrKnown},
		"assign twice":        {func() error { _, err := b.Add(Request{ID: 1, Tokens: 5}); return err }, ErrKnown},
		"no tokens":           {func() error { return b.Enqueue(Request{ID: 3}) }, ErrValue},
		"negative tokens":     {func() error { return b.Enqueue(Request{ID: 3, Tokens: -4}) }, ErrValue},
		"endless":             {func() error { return b.Enqueue(Request{ID: 3, Tokens: MaxPrompt + 1}) }, ErrValue},
		"cached above":        {func() error { return b.Enqueue(Request{ID: 3, Tokens: 4, Cached: 5}) }, ErrValue},
		"cached negative":     {func() error { _, err := b.Add(Request{ID: 3, Tokens: 4, Cached: -1}); return err }, ErrValue},
		"cached on a rank":    {func() error { return b.Enqueue(Request{ID: 3, Tokens: 4, CachedAt: []int64{0, 5}}) }, ErrValue},
		"cached for three":    {func() error { return b.Enqueue(Request{ID: 3, Tokens: 4, CachedAt: []int64{0, 1, 2}}) }, ErrValue},
		"shared above":        {func() error { return b.Enqueue(Request{ID: 3, Tokens: 4, Leader: 1, Shared: 5}) }, ErrValue},
		"rank below":          {func() error { return b.Drain(-1) }, ErrValue},
		"rank beyond":         {func() error { return b.Restore(2) }, ErrValue},
		"set cached above":    {func() error { return b.SetCached(1, -1, 101) }, ErrValue},
		"set cached there":    {func() error { return b.SetCached(1, 0, 10) }, ErrValue},
		"set cached unknown":  {func() error { return b.SetCached(4, -1, 1) }, ErrUnknown},
		"report of no orders": {func() error { return b.Report(Report{Version: 1 << 62}) }, ErrValue},
		"report of no rank":   {func() error { return b.Report(Report{Rank: 7}) }, ErrValue},
		"report below zero":   {func() error { return b.Report(Report{Work: Work{-1, 0}}) }, ErrValue},
	} {
		before := image(b)
		if err := c.call(); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, not %v", name, err, c.kind)
		}
		if d := cmp.Diff(before, image(b)); d != "" {
			t.Errorf("%s changed the state: %s", name, d)
		}
	}
	for g := range 2 {
		if err := b.Drain(g); err != nil {
			t.Fatal(err)
		}
	}
	before := image(b)
	if g, err := b.Add(Request{ID: 3, Tokens: 5}); g != Full || err != nil {
		t.Errorf("all ranks drained: %v", err)
	}
	if d := cmp.Diff(before, image(b)); d != "" {
		t.Errorf("all ranks drained: %s", d)
	}
	if c := b.Step(nil); len(c) != 0 {
		t.Errorf("all ranks drained: a step of %+v", c)
	}
}

// TestOverflow fills the ledger until it can count no more, and empties it.
func TestOverflow(t *testing.T) {
	b := newUnit(t, Config{Ranks: 2})
	n := ID(0)
	for ; n < 1000; n++ {
		before := image(b)
		err := b.Enqueue(Request{ID: n, Tokens: MaxPrompt, Cached: MaxPrompt / 2})
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, image(b)); d != "" {
				t.Fatal(d)
			}
			break
		}
	}
	if n == 0 || n == 1000 {
		t.Fatalf("%d prompts of %d tokens were taken", n, MaxPrompt)
	}
	b.Step(nil)
	check(t, b)
	for id := range n {
		if err := b.Done(id); err != nil {
			t.Fatal(err)
		}
	}
	if b.total != (Work{}) {
		t.Errorf("%+v remain", b.total)
	}
}

func TestBadConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"no ranks": {}, "too many ranks": {Ranks: MaxRanks + 1}, "negative budget": {Ranks: 1, MaxTokens: -1},
		"negative KV": {Ranks: 1, MaxKV: []int64{-1}}, "no cost": {Ranks: 1, Cost: Cost{Step: 1}}, "negative cost": {Ranks: 1, Cost: Cost{Pair: -1, Token: 1}},
		"endless cost": {Ranks: 1, Cost: Cost{Pair: math.Inf(1)}}, "no number": {Ranks: 1, Cost: Cost{Pair: math.NaN()}},
		"no patience": {Ranks: 1, Patience: math.NaN()}, "no such router": {Ranks: 1, Routers: 2, Router: 2},
	} {
		if _, err := New(c); !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWork holds the pairs of a chunk against counting them.
func TestWork(t *testing.T) {
	for p := range int64(20) {
		for n := range int64(20) {
			pairs := int64(0)
			for i := range n {
				pairs += p + i + 1
			}
			if got := WorkOf(n, p); got != (Work{n, pairs}) {
				t.Fatalf("%d after %d: %+v, not %d pairs", n, p, got, pairs)
			}
		}
	}
}
