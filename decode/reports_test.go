package decode

import (
	"errors"
	"slices"
	"testing"
)

// engineSaid is a rank as it really is, beside another router's requests, and what
// it has said about itself.
type engineSaid struct {
	epoch     uint64
	stays     []stay // of this router's requests since the epoch began, in their order
	left      uint64 // of them, gone
	kv, width int64  // of the other router's
	past      []said
	told      Report // the latest that was taken in
}

// stay is the time of a request on a rank.
type stay struct {
	id            ID
	left          uint64 // the how-manieth that left; 0 = it is there
	kv, width, at int64  // as it left
}

type said struct {
	Report
	at int64
}

func (e *engineSaid) find(id ID) *stay {
	for i := range e.stays {
		if s := &e.stays[i]; s.id == id && s.left == 0 {
			return s
		}
	}
	return nil
}

func (p *plain) comes(id ID, g int) {
	if p.engines != nil {
		p.engines[g].stays = append(p.engines[g].stays, stay{id: id})
	}
}

func (p *plain) goes(id ID) {
	if p.engines == nil {
		return
	}
	x := p.things[id]
	e := &p.engines[x.rank]
	if s := e.find(id); s != nil { // it was not lost with a restart
		e.left++
		s.left, s.kv, s.width, s.at = e.left, x.kv, x.width, p.clock
	}
}

// says is the truth about a rank.
func (e *engineSaid) says(p *plain, g int) Report {
	r := Report{Rank: g, KV: e.kv, Requests: int(e.width), Epoch: e.epoch}
	if p.counts {
		r.Placed, r.Finished = uint64(len(e.stays)), e.left
	}
	for _, s := range e.stays {
		if s.left == 0 {
			r.KV += p.things[s.id].kv
			r.Requests += int(p.things[s.id].width)
		}
	}
	return r
}

// report lets something happen on a rank that this router does not see, or gives it a
// report: fresh, late, out of order, frozen, of an epoch that is over, or wrong.
// A fresh one makes the ledger's view of the rank the truth, whatever was said before;
// a late one that counts, what it says and what has come and gone since; one that is
// refused changes nothing.
func (p *plain) report() {
	g := p.r.IntN(len(p.state))
	e := &p.engines[g]
	switch p.r.IntN(30) {
	case 0, 1:
		*e = engineSaid{epoch: e.epoch + 1, past: e.past, told: e.told}
		return
	case 2, 3, 4, 5:
		e.width = p.r.Int64N(5)
		e.kv = e.width * p.r.Int64N(3000)
		return
	}
	x := said{e.says(p, g), p.clock}
	e.past = append(e.past[max(0, len(e.past)-20):], x)
	lies := false
	switch old := e.past[p.r.IntN(len(e.past))]; {
	case p.r.IntN(2) == 0 || e.epoch > e.told.Epoch && old.Epoch == e.epoch || p.counts && old.Placed == 0:
	case p.r.IntN(4) == 0:
		x, lies = old, true
		x.KV, x.Requests = p.r.Int64N(100_000), p.r.IntN(50)
	default:
		x = old
	}
	x.Age = int(p.clock - x.at)
	counted := x.Placed > 0
	refused := p.state[g] == Dead || x.Epoch < e.told.Epoch || x.Epoch == e.told.Epoch && counted && (x.Placed < e.told.Placed || x.Finished < e.told.Finished)
	before := []byte(nil)
	if refused {
		before = p.b.AppendSnapshot(nil)
	}
	if err := p.both(func(b *Balancer) error { return b.Report(x.Report) }); (err != nil) != refused || refused && !errors.Is(err, ErrState) {
		p.t.Fatalf("%+v after %+v: %v", x.Report, e.told, err)
	}
	if refused {
		if !slices.Equal(before, p.b.AppendSnapshot(nil)) {
			p.t.Fatalf("%+v was refused and has changed something", x.Report)
		}
		return
	}
	if counted || x.Epoch > e.told.Epoch {
		e.told = x.Report
	}
	truth := e.says(p, g)
	kv, width := truth.KV, int64(truth.Requests)
	switch fresh := x.Report == truth; {
	case lies || x.Epoch < e.epoch || !fresh && !counted:
		return
	case !fresh:
		kv, width = x.KV+int64(x.Requests*x.Age), int64(x.Requests)
		for i, s := range e.stays {
			switch seen := uint64(i) < x.Placed; {
			case seen && s.left > x.Finished:
				kv, width = kv-s.kv-s.width*(p.clock-s.at), width-s.width
			case !seen && s.left == 0:
				kv, width = kv+p.things[s.id].kv, width+p.things[s.id].width
			}
		}
	}
	if s := p.b.Rank(g); s.KV != max(kv, 0) || int64(s.Width) != max(width, 0) {
		p.t.Fatalf("after %+v, %+v, rank %d is thought to hold %d tokens of width %d, not %d of %d", x.Report, truth, g, s.KV, s.Width, kv, width)
	}
}

// TestCountsBeginAtNone: the first report after a restart counts nothing, and what was
// placed since then is still told from what was lost, though the last of it has gone.
func TestCountsBeginAtNone(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 1})
	report := func(r Report) {
		if err := b.Report(r); err != nil {
			t.Fatal(err)
		}
	}
	add := func(id ID) {
		if _, err := b.Add(Request{ID: id, KV: 100}); err != nil {
			t.Fatal(err)
		}
	}
	add(1)
	report(Report{Requests: 1, KV: 100, Placed: 1})
	report(Report{Epoch: 1})
	add(2)
	b.Step() // 2 is lost with the next epoch
	add(3)
	add(4)
	if err := b.Done(4); err != nil {
		t.Fatal(err)
	}
	b.Step()
	report(Report{Requests: 1, KV: 101, Placed: 2, Finished: 1, Epoch: 2})
	if err := b.Done(2); err != nil {
		t.Fatal(err)
	}
	now := Report{Requests: 1, KV: 101, Placed: 2, Finished: 1, Epoch: 2}
	report(now)
	if s := b.Rank(0); s.KV != 101 || s.Width != 1 {
		t.Errorf("%d tokens of width %d, want what was reported", s.KV, s.Width)
	}
}

// TestGrowBesideReports: what grows or shrinks leaves a view that never had it as it
// is, and takes none below zero.
func TestGrowBesideReports(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 2})
	enter(t, b, Request{KV: 100}, 0)
	id := b.Known(nil)[0]
	for _, x := range []struct {
		said     Report
		grow, kv int64
	}{
		{Report{KV: 30, Requests: 1, Placed: 1}, 5, 35},
		{Report{KV: 30, Requests: 1, Placed: 1}, -50, 0},
		{Report{Epoch: 1}, 20, 0}, // the rank restarted without it
	} {
		if err := b.Report(x.said); err != nil {
			t.Fatal(err)
		}
		if err := b.Grow(id, x.grow); err != nil || b.Rank(0).KV != x.kv {
			t.Errorf("%+v, and it grows by %d: %d tokens, not %d (%v)", x.said, x.grow, b.Rank(0).KV, x.kv, err)
		}
		if _, err := FromSnapshot(b.AppendSnapshot(nil)); err != nil {
			t.Error(err)
		}
	}
}

// sawRank demands what a router sees of rank 0.
func sawRank(t *testing.T, b *Balancer, when string, requests int, kv int64) {
	t.Helper()
	if s := b.Rank(0); s.Width != requests || s.KV != kv {
		t.Errorf("%s: %d requests of %d tokens, want %d of %d", when, s.Width, s.KV, requests, kv)
	}
}

// TestOldReportAfterDeath: a report from before a rank died may come before the first
// true one. That one mends it, and what the rank says from then on counts again.
func TestOldReportAfterDeath(t *testing.T) {
	for epoch := range uint64(2) {
		oldReportAfterDeath(t, epoch)
	}
}

func oldReportAfterDeath(t *testing.T, epoch uint64) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 2})
	enter := func(id ID, kv int64) {
		t.Helper()
		if err := b.Enter(Request{ID: id, KV: kv}, 0); err != nil {
			t.Fatal(err)
		}
	}
	report := func(r Report) {
		t.Helper()
		if err := b.Report(r); err != nil {
			t.Fatal(err)
		}
	}
	done := func(id ID) {
		t.Helper()
		if err := b.Done(id); err != nil {
			t.Fatal(err)
		}
	}
	for id := range ID(5) {
		enter(id, 100)
	}
	old := Report{Requests: 6, KV: 1500, Placed: 5, Epoch: epoch}
	report(old)
	if _, err := b.Dead(nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Report(old); !errors.Is(err, ErrState) {
		t.Errorf("a report of a dead rank: %v", err)
	}
	if err := b.Restore(0); err != nil {
		t.Fatal(err)
	}
	sawRank(t, b, "restored", 0, 0)
	enter(10, 200)
	enter(11, 300)
	report(old)
	sawRank(t, b, "an old report", 6, 1500)
	report(Report{Requests: 2, KV: 500, Placed: 2, Epoch: epoch + 1})
	sawRank(t, b, "a true one", 2, 500)
	done(10)
	sawRank(t, b, "one is done", 1, 300)
	enter(12, 400)
	sawRank(t, b, "and one comes", 2, 700)
	report(Report{Requests: 2, KV: 1300, Placed: 2, Epoch: epoch + 1}) // of neither, and of another router's
	sawRank(t, b, "both unseen", 2, 1500)
	report(Report{Requests: 3, KV: 1700, Placed: 3, Finished: 1, Epoch: epoch + 1})
	sawRank(t, b, "both seen", 3, 1700)
	done(11)
	done(12)
	sawRank(t, b, "all done", 1, 1000)
}

// TestRestartAfterAllSeen: of what came after a restart and has gone again the rank's
// counts tell, though nothing that is there does.
func TestRestartAfterAllSeen(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 2})
	for id := range ID(4) {
		if err := b.Enter(Request{ID: id, KV: 100}, 0); err != nil {
			t.Fatal(err)
		}
		if id == 2 {
			if err := b.Report(Report{Requests: 3, KV: 300, Placed: 3}); err != nil {
				t.Fatal(err)
			}
		}
		if id >= 2 {
			if err := b.Done(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The first three were lost, the fourth came and went; another router has one there.
	if err := b.Report(Report{Requests: 1, KV: 1000, Placed: 1, Finished: 1, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	sawRank(t, b, "restarted", 1, 1000)
	for id := range ID(2) {
		if err := b.Done(id); err != nil {
			t.Fatal(err)
		}
		sawRank(t, b, "one that was lost is done", 1, 1000)
	}
}

// TestSyncAfterRestart: what the engine lists after a restart stays, and the first
// report of the new epoch finds it.
func TestSyncAfterRestart(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 2})
	if err := b.Report(Report{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	for id := range ID(4) {
		if err := b.Enter(Request{ID: id, KV: 100 * int64(id+1)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Report(Report{Requests: 3, KV: 700, Placed: 2, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	sawRank(t, b, "before", 5, 1400)
	changes, err := b.Sync(Changes{}, 0, []Request{{ID: 2, KV: 300}, {ID: 3, KV: 400}}) // the first two were lost
	if err != nil || len(changes.Gone) != 2 {
		t.Fatal(changes, err)
	}
	sawRank(t, b, "listed", 2, 700)
	if err := b.Report(Report{Requests: 3, KV: 1200, Placed: 2, Epoch: 2}); err != nil {
		t.Fatal(err)
	}
	sawRank(t, b, "the new epoch", 3, 1200)
	if err := b.Done(2); err != nil {
		t.Fatal(err)
	}
	sawRank(t, b, "one is done", 2, 900)
	if err := b.Report(Report{Requests: 2, KV: 900, Placed: 2, Finished: 1, Epoch: 2}); err != nil {
		t.Fatal(err)
	}
	if err := b.Done(3); err != nil {
		t.Fatal(err)
	}
	sawRank(t, b, "both are", 1, 500)
}

// TestShrunkBeforeTheFirstStep: a request that becomes shorter before it has run is as
// if it had been entered so.
func TestShrunkBeforeTheFirstStep(t *testing.T) {
	var lives [2]lives
	for n, cut := range [...]int64{0, 30} {
		b := newBalancer(t, Config{Ranks: 2, KVCapacity: []int64{1000}})
		if err := b.Enter(Request{ID: 1, KV: 100 + cut}, 0); err != nil {
			t.Fatal(err)
		}
		if err := b.Grow(1, -cut); err != nil {
			t.Fatal(err)
		}
		sawRank(t, b, "shrunk", 1, 100)
		for range 7 {
			b.Step()
		}
		sawRank(t, b, "seven steps later", 1, 107)
		remodel(t, b)
		if err := b.Done(1); err != nil {
			t.Fatal(err)
		}
		sawRank(t, b, "done", 0, 0)
		if lives[n] = b.lives; b.lives.sum != 7 {
			t.Errorf("%d tokens were generated, of 7", b.lives.sum)
		}
	}
	if lives[0] != lives[1] {
		t.Error("what was learned depends on what was cut")
	}
}

// TestCountsStayAtNone: a rank that restarted and says more than once that it has taken
// nothing in yet still counts: what it loses next is not taken for what it let go.
func TestCountsStayAtNone(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 2})
	says := func(epoch, placed, finished uint64, requests int) {
		t.Helper()
		if err := b.Report(Report{Epoch: epoch, Placed: placed, Finished: finished, Requests: requests, KV: 100 * int64(requests)}); err != nil {
			t.Fatal(err)
		}
	}
	comes := func(id ID) {
		t.Helper()
		if err := b.Enter(Request{ID: id, KV: 100}, 0); err != nil {
			t.Fatal(err)
		}
	}
	goes := func(id ID) {
		t.Helper()
		if err := b.Done(id); err != nil {
			t.Fatal(err)
		}
	}
	comes(1)
	says(1, 1, 0, 1)
	goes(1)
	says(2, 0, 0, 0)
	says(2, 0, 0, 0)
	comes(2) // lost with the next restart, after which two come and go
	comes(3)
	comes(4)
	goes(3)
	goes(4)
	says(3, 2, 2, 0)
	goes(2)
	comes(5)
	says(3, 3, 2, 1)
	if s := b.Rank(0); s.Requests != 1 || s.KV != 100 {
		t.Errorf("%d requests of %d tokens, where one of 100 runs", s.Requests, s.KV)
	}
}
