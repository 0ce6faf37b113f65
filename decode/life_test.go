package decode

import (
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
)

// naivePeak is the most that a rank comes to with one request more, where all that
// was told is true.
func naivePeak(b *Balancer, g int, more Request) (peak int64) {
	type life struct{ kv, left int64 }
	all := []life{{more.KV, more.Output}}
	for _, i := range b.ranks[g].members {
		q := &b.requests[i]
		all = append(all, life{q.kv(b.clock), q.output - (q.kv(b.clock) - q.start)})
	}
	for _, end := range all {
		sum := int64(0)
		for _, x := range all {
			if x.left >= end.left {
				sum += x.kv + end.left
			}
		}
		peak = max(peak, sum)
	}
	return peak
}

// TestAdmission: where outputs are told, a rank never holds more than its
// capacity until all have finished, and what is refused would have broken that
// on every rank.
func TestAdmission(t *testing.T) {
	const capacity = 20_000
	r := rand.New(rand.NewPCG(25, 26))
	b := newBalancer(t, Config{Ranks: 6, KVCapacity: []int64{capacity}})
	type running struct {
		id   ID
		left int
	}
	var all []running
	refused, placed := 0, 0
	for step := range 4000 {
		for range r.IntN(3) {
			q := Request{KV: 1 + r.Int64N(5000), Output: 1 + r.Int64N(600)}
			slack := int64(capacity) // of the rank with most room
			for g := range b.ranks {
				slack = min(slack, naivePeak(b, g, q))
			}
			id, g, err := add(b, q)
			if err != nil {
				t.Fatal(err)
			}
			if g < 0 && slack < capacity*9/10 {
				t.Fatalf("step %d: refused, though a rank would come to %d", step, slack)
			}
			if g < 0 {
				refused++
				continue
			}
			placed++
			all = append(all, running{id, int(q.Output)})
		}
		b.Step()
		for i := 0; i < len(all); {
			if all[i].left--; all[i].left > 0 {
				i++
				continue
			}
			if err := b.Done(all[i].id); err != nil {
				t.Fatal(err)
			}
			all[i] = all[len(all)-1]
			all = all[:len(all)-1]
		}
		for g := range b.ranks {
			if kv := b.kv(g); kv > capacity {
				t.Fatalf("step %d: rank %d holds %d tokens", step, g, kv)
			}
		}
		for g := range b.ranks {
			if peak := naivePeak(b, g, Request{}); peak > capacity {
				t.Fatalf("step %d: rank %d would come to %d", step, g, peak)
			}
		}
	}
	if refused == 0 || placed < 1000 {
		t.Errorf("%d placed, %d refused: the unit was never full", placed, refused)
	}
}

// TestIdleRank: an idle rank takes a prompt that it holds, whatever outputs are
// expected, and refuses one whose output is told and too long.
func TestIdleRank(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 2, KVCapacity: []int64{10_000}, Output: 3000})
	for _, x := range []struct {
		q    Request
		rank int
	}{
		{Request{KV: 9999}, 0},
		{Request{KV: 8000}, 1},
		{Request{KV: 1}, -1},
	} {
		if _, g, err := add(b, x.q); g != x.rank || err != nil {
			t.Errorf("%+v goes to rank %d (%v), want %d", x.q, g, err, x.rank)
		}
	}
}

// TestRefusedUntilThereIsRoom: what is refused is refused again, and taken once
// there is room for it, whatever made it: on another rank than the one that looks
// best, which holds little but will hold much.
func TestRefusedUntilThereIsRoom(t *testing.T) {
	more := Request{KV: 2000, Output: 5000}
	for name, change := range map[string]func(b *Balancer, full ID) error{
		"done":    func(b *Balancer, full ID) error { return b.Done(full) },
		"shrunk":  func(b *Balancer, full ID) error { return b.Grow(full, -7000) },
		"restore": func(b *Balancer, _ ID) error { return b.Restore(2) },
		"resize":  func(b *Balancer, _ ID) error { return b.Resize(4) },
		"report": func(b *Balancer, _ ID) error {
			return b.Report(Report{Rank: 0, Requests: 1, KV: 1500, Placed: 1})
		},
	} {
		b := newBalancer(t, Config{Ranks: 3, KVCapacity: []int64{10_000}, Routers: 1, Cost: Cost{KV: 1}})
		if err := b.Drain(2); err != nil {
			t.Fatal(err)
		}
		full, g, err := add(b, Request{KV: 8500, Output: 10})
		if g != 0 || err != nil {
			t.Fatalf("rank %d (%v)", g, err)
		}
		if _, g, err := add(b, Request{KV: 500, Output: 9000}); g != 1 || err != nil {
			t.Fatalf("rank %d (%v)", g, err)
		}
		for range 2 {
			if _, g, err := add(b, more); g >= 0 || err != nil {
				t.Fatalf("%s: rank %d (%v) before there is room", name, g, err)
			}
		}
		if err := change(b, full); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, g, err := add(b, more); g < 0 || err != nil {
			t.Errorf("%s: refused (%v) though there is room", name, err)
		}
	}
}

// TestLimits: no rank takes more requests than MaxRequests, each counted Width
// times, and none is refused while a rank has room.
func TestLimits(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 3, MaxRequests: 5})
	for i := range 7 {
		if _, g, err := add(b, Request{KV: 10, Width: 2}); err != nil || g < 0 != (i == 6) {
			t.Fatalf("request %d: rank %d, %v", i, g, err)
		}
	}
	for i := range 4 {
		if _, g, err := add(b, Request{KV: 10}); err != nil || g < 0 != (i == 3) {
			t.Fatalf("request %d of width 1: rank %d, %v", i, g, err)
		}
	}
	b.Step()
	if s := b.Stats(); s.Ranks[0].Requests != 3 || s.Ranks[0].Width != 5 || s.Ranks[0].KV != 35 {
		t.Errorf("%+v", s.Ranks[0])
	}
}

func TestDrainRestoreDead(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 2})
	first, g, _ := add(b, Request{KV: 100, Output: 50})
	if g != 0 {
		t.Fatalf("rank %d", g)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.Drain(1))
	if _, g, _ := add(b, Request{KV: 10}); g != 0 {
		t.Errorf("rank %d, though 1 is drained", g)
	}
	must(b.Drain(0))
	if _, g, _ := add(b, Request{KV: 10}); g != -1 {
		t.Errorf("rank %d, though all are drained", g)
	}
	b.Step()
	lost, err := b.Dead(nil, 0)
	if err != nil || len(lost) != 2 || !reflect.DeepEqual(lost[0], Lost{ID: first, KV: 101, Output: 49, Width: 1, Generated: 1}) {
		t.Fatalf("%+v, %v", lost, err)
	}
	if err := b.Drain(0); err == nil {
		t.Error("a dead rank was drained")
	}
	if err := b.Done(first); err == nil {
		t.Error("what was lost still runs")
	}
	must(b.Restore(1))
	if _, g, _ := add(b, lost[0]); g != 1 {
		t.Errorf("rank %d", g)
	}
	must(b.Restore(0))
	if _, g, _ := add(b, lost[1]); g != 0 {
		t.Errorf("rank %d", g)
	}
	must(b.Resize(4))
	if _, g, _ := add(b, Request{KV: 10}); g != 2 && g != 3 {
		t.Errorf("rank %d of the new ones", g)
	}
	recompute(t, b)
}

// TestRebalance: moves lower the largest KV use, and are applied.
func TestRebalance(t *testing.T) {
	r := rand.New(rand.NewPCG(27, 28))
	b := newBalancer(t, Config{Ranks: 8})
	for i := range 400 {
		enter(t, b, Request{KV: 500 + r.Int64N(5000)}, min(i%10, 7))
	}
	for range 200 {
		kv, _ := b.peak()
		moves, err := b.Rebalance(nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(moves) == 0 {
			break
		}
		m := moves[0]
		if g, err := b.Where(m.ID); err != nil || g != m.To || m.From == m.To || m.Gain <= 0 || m.Seconds <= 0 {
			t.Fatalf("%+v: rank %d, %v", m, g, err)
		}
		if now, _ := b.peak(); now > kv {
			t.Fatalf("%+v: the most KV use rises from %d to %d", m, kv, now)
		}
	}
	recompute(t, b)
	if s := b.Stats(); s.Imbalance.KV > 1.05 {
		t.Errorf("KV use is %.3f of the mean after all moves", s.Imbalance.KV)
	}
}

// TestReports: what a report has not seen is added from the ledger.
func TestReports(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 2})
	enter := func(kv int64) ID {
		id, _, err := add(b, Request{KV: kv})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	view := func(requests int, kv int64) {
		t.Helper()
		if s := b.Stats().Ranks[0]; s.Width != requests || s.KV != kv {
			t.Errorf("%d requests of %d tokens, want %d of %d", s.Width, s.KV, requests, kv)
		}
	}
	report := func(r Report) {
		t.Helper()
		if err := b.Report(r); err != nil {
			t.Fatal(err)
		}
	}
	x, y := enter(100), enter(200)
	view(2, 300)
	b.Step()
	view(2, 302)
	// The rank had x and another router's 1000 tokens, a step ago.
	report(Report{Requests: 2, KV: 1100, Placed: 1, Age: 1})
	view(3, 1100+2+201)
	// x finishes: the report still held it.
	if err := b.Done(x); err != nil {
		t.Fatal(err)
	}
	view(2, 1001+201)
	// A report older than that one changes nothing.
	report(Report{Requests: 9, KV: 9999})
	report(Report{Requests: 2, KV: 1202, Placed: 2, Finished: 1})
	view(2, 1202)
	// The rank has let y go before the router hears of it.
	report(Report{Requests: 1, KV: 1001, Placed: 2, Finished: 2})
	view(1, 1001)
	if err := b.Done(y); err != nil {
		t.Fatal(err)
	}
	view(1, 1001)
	for _, r := range []Report{{Rank: 1}, {KV: -1}, {Requests: -1}, {Age: -1}, {Placed: 3}, {Placed: 1, Finished: 2}} {
		if err := b.Report(r); err == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
}

// TestSafe: many goroutines lose nothing.
func TestSafe(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 16})
	s := NewSafe(b)
	var all sync.WaitGroup
	kept := make([][]ID, 64)
	for w := range kept {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 29))
			for i := range 200 {
				id := ID(w)<<32 | ID(i)
				g, err := s.Add(Request{ID: id, KV: 1 + r.Int64N(1000)})
				if err != nil || g < 0 {
					t.Error(g, err)
					return
				}
				kept[w] = append(kept[w], id)
				switch i % 4 {
				case 0:
					s.Step()
				case 1:
					if _, err := s.Batch(nil, []Request{}); err != nil {
						t.Error(err)
					}
				case 2:
					if err := s.Done(kept[w][0]); err != nil {
						t.Error(err)
					}
					kept[w] = kept[w][1:]
				case 3:
					s.Do(func(b *Balancer) { _ = b.Stats() })
				}
			}
		})
	}
	all.Wait()
	recompute(t, b)
	seen := map[ID]bool{}
	for _, ids := range kept {
		for _, id := range ids {
			seen[id] = true
			if err := s.Done(id); err != nil {
				t.Error(err)
			}
		}
	}
	if len(seen) != 64*150 {
		t.Errorf("%d requests, want %d", len(seen), 64*150)
	}
	for g, r := range b.Stats().Ranks {
		if r.KV != 0 || r.Requests != 0 {
			t.Errorf("rank %d is left with %+v", g, r)
		}
	}
}

// TestQuoteKept: what a quote says of the rank is so once the request is there: its KV
// use, and that, of ranks unlike each other, it takes no longer than the quote's step.
func TestQuoteKept(t *testing.T) {
	b, err := New(Config{Ranks: 3, Speed: []float64{1, 0.5, 2}})
	if err != nil {
		t.Fatal(err)
	}
	c := DeepSeekV3H800()
	rng := rand.New(rand.NewPCG(5, 6))
	for id := range ID(200) {
		r := Request{ID: id, KV: 100 + rng.Int64N(50_000), Output: 2}
		q, err := b.Quote(r)
		if err != nil {
			t.Fatal(err)
		}
		if kv := b.Rank(q.Rank).KV; q.KV != kv || q.Beyond != 0 {
			t.Fatalf("%+v of a rank of %d tokens", q, kv)
		}
		if g, err := b.Add(r); err != nil || g != q.Rank {
			t.Fatalf("on %d: %v, quoted %+v", g, err, q)
		}
		k := b.Rank(q.Rank)
		took := c.Step + (c.KV*float64(k.KV)+c.Request*float64(k.Width))/[]float64{1, 0.5, 2}[q.Rank]
		if took > q.Step+1e-9 {
			t.Fatalf("the rank takes %v s, quoted %+v", took, q)
		}
		if rng.IntN(3) == 0 {
			_ = b.Done(ID(rng.Int64N(int64(id) + 1)))
		}
	}
}

// TestIdleSmallRank: an idle rank takes nothing that is told to outgrow it, though a
// larger one could hold it.
func TestIdleSmallRank(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 2, KVCapacity: []int64{5000, 20_000}})
	for want := range 3 {
		g, err := b.Add(Request{ID: ID(want), KV: 3000, Output: 4000})
		if err != nil || g == 0 || g < 0 && want < 1 {
			t.Errorf("rank %d, %v", g, err)
		}
	}
}

// TestRoomBesideRouters: on a rank of another router's share room for two long
// prompts is left, which its own may be placing there.
func TestRoomBesideRouters(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 2, KVCapacity: []int64{10_000}, Routers: 2})
	b.long = 1000
	for _, x := range []struct {
		rank int
		kv   int64
		fits bool
	}{{0, 9999, true}, {1, 7999, true}, {1, 8000, false}} {
		if got := b.fits(x.rank, &Request{KV: x.kv, Width: 1}, x.kv); got != x.fits {
			t.Errorf("%d on rank %d: %v", x.kv, x.rank, got)
		}
	}
}

// TestAlone: a router that has heard of nobody else's requests fills all ranks, evenly;
// before the first step, and once it has heard of any, its own share alone.
func TestAlone(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 8, Routers: 2, Router: 1})
	id := ID(0)
	fill := func(n int) (got [8]int) {
		for range n {
			id++
			g, err := b.Add(Request{ID: id, KV: 1000})
			if err != nil {
				t.Fatal(err)
			}
			got[g]++
		}
		return got
	}
	if got, want := fill(8), [8]int{0, 2, 0, 2, 0, 2, 0, 2}; got != want {
		t.Errorf("before the first step: %v, want %v", got, want)
	}
	b.Step()
	if got, want := fill(24), [8]int{4, 2, 4, 2, 4, 2, 4, 2}; got != want {
		t.Errorf("alone: %v, want %v", got, want)
	}
	for _, draining := range []func(int) error{b.Drain, b.Restore} { // what is its own there is nobody else's
		if err := draining(1); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fill(8), [8]int{1, 1, 1, 1, 1, 1, 1, 1}; got != want {
		t.Errorf("alone, after a drain: %v, want %v", got, want)
	}
	for g := range 8 {
		if err := b.Report(Report{Rank: g, Requests: 6, KV: 6000}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fill(8), [8]int{0, 2, 0, 2, 0, 2, 0, 2}; got != want {
		t.Errorf("with another: %v, want %v", got, want)
	}
}

// TestAloneFillsEvenly: of ranks that cost it nothing, a router that may be alone takes
// the one of least KV use, since others may be filling them too.
func TestAloneFillsEvenly(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 3, Routers: 2})
	for g, kv := range []int64{9000, 2000, 1000} {
		if err := b.Enter(Request{ID: ID(g), KV: kv}, g); err != nil {
			t.Fatal(err)
		}
	}
	b.Step()
	if g, err := b.Add(Request{ID: 3, KV: 100}); g != 2 || err != nil {
		t.Errorf("rank %d, %v", g, err)
	}
}

// TestBelieved: what is told in all, with what has been generated of it, is believed
// up to the bound.
func TestBelieved(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1})
	b.lives.bound = 1000
	for _, x := range [][3]int64{{900, 100, 900}, {900, 101, 0}, {1001, 0, 0}} {
		if got := b.believed(x[0], x[1]); got != x[2] {
			t.Errorf("%d to come after %d: %d", x[0], x[1], got)
		}
	}
}

// TestReportOfTheLatest: the request placed last, which the report still holds and
// which has finished since, is taken off it.
func TestReportOfTheLatest(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 1})
	for _, err := range []error{
		b.Enter(Request{ID: 1, KV: 700}, 0), b.Enter(Request{ID: 2, KV: 1000}, 0), b.Done(2),
		b.Report(Report{Rank: 0, Requests: 2, KV: 1700, Placed: 2}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if s := b.Rank(0); s.KV != 700 || s.Width != 1 {
		t.Errorf("%+v, of one request of 700", s)
	}
}

// TestStates: a rank's state in words, that of none, and no snapshot of such a one.
func TestStates(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 3})
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
	b.ranks[1].state = Gone
	if _, err := FromSnapshot(b.AppendSnapshot(nil)); err == nil {
		t.Error("a snapshot with a rank that is not there is taken")
	}
}
