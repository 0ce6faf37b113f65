package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

// picker is either ledger.
type picker interface {
	pick(t testing.TB, key any, candidates []Candidate) int
	done(key any)
	Sent(key any)
	loads() (held int, ranks []int)
}

type decoder struct{ *Decode }

func (d decoder) pick(t testing.TB, key any, candidates []Candidate) int {
	i, err := d.Pick(key, decode.Request{KV: 1000}, candidates)
	if err != nil {
		t.Error(err)
	}
	return i
}

func (d decoder) done(key any) { d.End(key, Finished, 0) }

func (d decoder) loads() (int, []int) {
	held, unit := d.Stats()
	ranks := make([]int, len(unit.Ranks))
	for g, k := range unit.Ranks {
		ranks[g] = k.Requests
		if k.Requests == 0 && k.KV != 0 {
			ranks[g] = -1
		}
	}
	return held, ranks
}

type prefiller struct{ *Prefill }

func (p prefiller) pick(t testing.TB, key any, candidates []Candidate) int {
	i, err := p.Pick(key, 1000, candidates)
	if err != nil {
		t.Error(err)
	}
	return i
}

func (p prefiller) done(key any) { p.End(key, Finished) }

func (p prefiller) loads() (int, []int) {
	held, all := p.Stats()
	ranks := make([]int, len(all))
	for g, k := range all {
		ranks[g] = k.Requests
		if k.Requests == 0 && k.Work != (prefill.Work{}) {
			ranks[g] = -1
		}
	}
	return held, ranks
}

// each runs a test on both ledgers.
func each(t *testing.T, cfg Config, f func(*testing.T, picker)) {
	t.Run("decode", func(t *testing.T) {
		d, err := NewDecode(decode.Config{}, 0, cfg)
		if err != nil {
			t.Fatal(err)
		}
		f(t, decoder{d})
	})
	t.Run("prefill", func(t *testing.T) {
		p, err := NewPrefill(prefill.Config{}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		f(t, prefiller{p})
	})
}

func named(names ...string) []Candidate {
	all := make([]Candidate, len(names))
	for i, n := range names {
		all[i].Name = Name{"pool", n}
	}
	return all
}

func empty(t *testing.T, p picker) {
	t.Helper()
	held, ranks := p.loads()
	if held != 0 {
		t.Errorf("%d requests are held", held)
	}
	for g, n := range ranks {
		if n != 0 {
			t.Errorf("rank %d is not empty", g)
		}
	}
}

// TestCandidates: only candidates are picked, whoever else is idle.
func TestCandidates(t *testing.T) {
	each(t, Config{Present: func() []Name { return nil }}, func(t *testing.T, p picker) {
		rng := rand.New(rand.NewPCG(1, 1))
		for key := range 2000 {
			var names []string
			for _, g := range rng.Perm(12)[:1+rng.IntN(11)] {
				names = append(names, fmt.Sprint(g))
			}
			if i := p.pick(t, key, named(names...)); i < 0 || i >= len(names) {
				t.Fatalf("pick %d of %d candidates", i, len(names))
			}
			p.Sent(key)
			if key >= 100 {
				p.done(key - 100)
			}
		}
		if p.pick(t, "only", named("3")) != 0 {
			t.Error("the only candidate was not picked")
		}
		if p.pick(t, "new", named("unheard of")) != 0 {
			t.Error("the only candidate, a new one, was not picked")
		}
		for key := 1900; key < 2000; key++ {
			p.done(key)
		}
		p.done("only")
		p.done("new")
		empty(t, p)
	})
}

// TestEven: requests of one kind are spread evenly, over endpoints that come at
// different times too.
func TestEven(t *testing.T) {
	each(t, Config{}, func(t *testing.T, p picker) {
		names := []string{"a", "b"}
		for key := range 24 {
			if key == 4 {
				names = append(names, "c", "d", "e")
			}
			p.pick(t, key, named(names...))
		}
		_, ranks := p.loads()
		for g, n := range ranks {
			if n < 4 || n > 5 {
				t.Errorf("rank %d has %d of 24 requests: %v", g, n, ranks)
			}
		}
	})
}

// TestGrows: a unit that grows holds what it held, and those that are no candidates
// stay out of service.
func TestGrows(t *testing.T) {
	each(t, Config{}, func(t *testing.T, p picker) {
		p.pick(t, 0, named("a", "b", "c"))
		p.pick(t, 1, named("b"))
		p.pick(t, 2, named("b"))
		p.pick(t, 3, named("b", "d", "e"))
		p.pick(t, 4, named("b", "d", "e"))
		if _, ranks := p.loads(); !slices.Equal(ranks, []int{1, 2, 0, 1, 1}) {
			t.Errorf("requests %v, want 1 2 0 1 1", ranks)
		}
		for key := range 5 {
			p.done(key)
		}
		empty(t, p)
	})
}

// TestVanished: the rank of an endpoint that no longer exists is used again once
// what ran on it has ended, and not before. One that is only no candidate keeps its.
func TestVanished(t *testing.T) {
	now := time.Unix(0, 0)
	exist := []string{"a", "b", "c"}
	cfg := Config{
		Now: func() time.Time { return now },
		Present: func() []Name {
			var all []Name
			for _, c := range named(exist...) {
				all = append(all, c.Name)
			}
			return all
		},
	}
	each(t, cfg, func(t *testing.T, p picker) {
		exist = []string{"a", "b", "c"}
		for key := range 3 {
			p.pick(t, key, named("a", "b", "c"))
			p.Sent(key)
		}
		exist = []string{"a", "b", "d"} // c is gone, and runs a request
		count := func() int { _, ranks := p.loads(); return len(ranks) }
		for key := 4; key < 10; key++ {
			now = now.Add(2 * time.Second)
			p.pick(t, key, named("a", "d")) // b is there, but no candidate
		}
		exist = append(exist, "e")
		p.pick(t, 10, named("a", "b", "d", "e"))
		if n := count(); n != 5 {
			t.Errorf("%d ranks while c's request runs, not 5", n)
		}
		for key := range 11 {
			p.done(key)
		}
		empty(t, p)
		exist = append(exist, "f")
		p.pick(t, 11, named("a", "b", "d", "e", "f"))
		if n := count(); n != 5 {
			t.Errorf("%d ranks: that of c was not used again", n)
		}
		exist = append(exist, "c")
		p.pick(t, 12, named("a", "b", "c", "d", "e", "f"))
		if n := count(); n != 6 {
			t.Errorf("%d ranks with c back, not 6", n)
		}
		p.done(11)
		p.done(12)
		empty(t, p)
	})
}

// TestFlapping: an endpoint that comes back while its requests run has them still.
func TestFlapping(t *testing.T) {
	now := time.Unix(0, 0)
	each(t, Config{Now: func() time.Time { return now }, Present: func() []Name { return nil }}, func(t *testing.T, p picker) {
		p.pick(t, 1, named("a"))
		for key := 2; key < 5; key++ {
			now = now.Add(2 * time.Second)
			p.pick(t, key, named("b")) // a is gone
		}
		for key := range 2 { // a is back with one, b has three
			if got := p.pick(t, 5+key, named("a", "b")); got != 0 {
				t.Errorf("the request went to b, which had more")
			}
		}
		if _, ranks := p.loads(); len(ranks) != 2 || ranks[0] != 3 || ranks[1] != 3 {
			t.Errorf("requests %v, want 3 and 3", ranks)
		}
	})
}

// TestOverdue: what was picked and never sent is released after ten seconds, what
// was sent and never ends after MaxAge, and its end means nothing then.
func TestOverdue(t *testing.T) {
	now := time.Unix(0, 0)
	cfg := Config{Now: func() time.Time { return now }, Present: func() []Name { return nil }, MaxAge: time.Minute}
	each(t, cfg, func(t *testing.T, p picker) {
		p.pick(t, "given up", named("a", "b"))
		p.pick(t, "hangs", named("a", "b"))
		now = now.Add(time.Second)
		p.Sent("hangs")
		after := func(d time.Duration, want int) {
			t.Helper()
			now = now.Add(d)
			p.pick(t, "probe", named("a", "b"))
			p.done("probe")
			if held, _ := p.loads(); held != want {
				t.Errorf("%d held after %v more, not %d", held, d, want)
			}
		}
		after(8*time.Second, 2)
		after(2*time.Second, 1)
		after(49500*time.Millisecond, 1)
		after(2*time.Second, 0)
		empty(t, p)
		p.done("hangs")
		p.Sent("given up")
		p.done("given up")
		empty(t, p)
	})
}

// TestPickedAgain: a request that is scheduled anew holds one place.
func TestPickedAgain(t *testing.T) {
	each(t, Config{}, func(t *testing.T, p picker) {
		for range 3 {
			p.pick(t, "one", named("a", "b"))
		}
		if held, _ := p.loads(); held != 1 {
			t.Errorf("%d held, not 1", held)
		}
		p.done("one")
		empty(t, p)
	})
}

// TestLoads: what an endpoint says of itself counts with what was placed since, and
// without what has been released since; said twice, it is taken once.
func TestLoads(t *testing.T) {
	now := time.Unix(0, 0)
	d, err := NewDecode(decode.Config{Routers: 2}, time.Hour, Config{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, requests, kv int) {
		t.Helper()
		if _, unit := d.Stats(); unit.Ranks[0].Width != requests || unit.Ranks[0].KV != int64(kv) {
			t.Errorf("%s: %d requests of %d tokens, not %d of %d", when, unit.Ranks[0].Width, unit.Ranks[0].KV, requests, kv)
		}
	}
	pick := func(key any, said Load) {
		t.Helper()
		a := named("a")
		a[0].Load = said
		if _, err := d.Pick(key, decode.Request{KV: 1000}, a); err != nil {
			t.Fatal(err)
		}
	}
	pick("early", Load{})
	want("alone", 1, 1000)
	now = now.Add(time.Second)
	then := now // with another's two
	now = now.Add(time.Second)
	d.End("early", Finished, 0)
	want("its own left", 0, 0)
	said := Load{Requests: 3, KV: 3000, At: then}
	pick("late", said)
	want("the others' two and the late one", 3, 3002) // the two a step older, in doubt
	d.End("late", Finished, 0)
	pick("later", said)
	want("said again", 3, 3002)
	now = now.Add(time.Second)
	pick("last", Load{Requests: -1, KV: -1, At: now})
	want("nonsense, as if nothing had been said", 4, 4002)
}

// TestNewOwner: what an endpoint said of itself does not count for the next one on
// its rank.
func TestNewOwner(t *testing.T) {
	now := time.Unix(0, 0)
	d, err := NewDecode(decode.Config{Routers: 2}, time.Hour, Config{Now: func() time.Time { return now }, Present: func() []Name { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	a := named("a")
	a[0].Load = Load{Requests: 9, KV: 9000, At: now}
	for i, c := range [][]Candidate{a, named("b"), named("c")} {
		if _, err := d.Pick(i, decode.Request{KV: 1000}, c); err != nil {
			t.Fatal(err)
		}
		d.End(i, Finished, 0)
		now = now.Add(2 * time.Second)
	}
	_, unit := d.Stats()
	for g, k := range unit.Ranks {
		if k.KV != 0 || k.Width != 0 {
			t.Errorf("rank %d has %d tokens of %d requests of an endpoint that is gone", g, k.KV, k.Width)
		}
	}
	if len(unit.Ranks) != 1 || unit.Ranks[0].State != decode.Serving {
		t.Errorf("ranks %+v, want each on the first", unit.Ranks)
	}
}

// TestFull: where no candidate has room the request is refused and holds nothing.
func TestFull(t *testing.T) {
	d, err := NewDecode(decode.Config{MaxRequests: 1}, 0, Config{})
	if err != nil {
		t.Fatal(err)
	}
	p := decoder{d}
	if p.pick(t, 1, named("a")) != 0 || p.pick(t, 2, named("a")) != -1 {
		t.Error("one fits and the next does not")
	}
	if p.pick(t, 3, named("a", "b")) != 1 {
		t.Error("the other has room")
	}
	p.done(1)
	p.done(2)
	p.done(3)
	empty(t, p)
}

// TestLearns: outputs that are told at the end are what the balancer expects of
// those to come, whatever the clock says.
func TestLearns(t *testing.T) {
	d, err := NewDecode(decode.Config{KVCapacity: []int64{550_000}}, 0, Config{Now: func() time.Time { return time.Unix(0, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	for key := range 400 {
		if _, err := d.Pick(key, decode.Request{KV: 1000}, named("a", "b")); err != nil {
			t.Fatal(err)
		}
		d.End(key, Finished, 300)
	}
	if _, err := d.Pick(0, decode.Request{KV: 1000}, named("a")); err != nil {
		t.Fatal(err)
	}
	_, unit := d.Stats()
	kept := max(unit.Ranks[0].Kept, unit.Ranks[1].Kept)
	if kept < 300 || kept > 1000 { // with deviations to spare
		t.Errorf("%d tokens are kept back for one request, of 300 expected", kept)
	}
	d.End(0, Finished, 1<<30) // nonsense does not keep it from ending
	empty(t, decoder{d})
}

// TestConcurrent: many goroutines pick, send and release at once, among candidates
// that come and go.
func TestConcurrent(t *testing.T) {
	const workers, requests = 16, 500
	var tick atomic.Int64
	cfg := Config{
		Now:     func() time.Time { return time.Unix(0, tick.Add(int64(time.Millisecond))) },
		Present: func() []Name { return nil },
	}
	each(t, cfg, func(t *testing.T, p picker) {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 0))
				for i := range requests {
					key := [2]int{w, i}
					var names []string
					for _, g := range rng.Perm(40)[:20] {
						names = append(names, fmt.Sprint(g))
					}
					if p.pick(t, key, named(names...)) < 0 {
						t.Error("no pick")
					}
					p.Sent(key)
					if i%3 != 0 {
						p.done(key)
					} else {
						defer p.done(key)
					}
				}
			})
		}
		wg.Wait()
		empty(t, p)
	})
}

// TestBad: a bad configuration is an error that names what is wrong.
func TestBad(t *testing.T) {
	if _, err := NewDecode(decode.Config{KVCapacity: []int64{-1}}, 0, Config{}); err == nil {
		t.Error("a negative capacity was accepted")
	}
	if _, err := NewDecode(decode.Config{}, -1, Config{}); err == nil {
		t.Error("a negative step was accepted")
	}
	if _, err := NewPrefill(prefill.Config{Routers: 2, Router: 2}, Config{}); err == nil {
		t.Error("router 2 of 2 was accepted")
	}
	if _, err := NewPrefill(prefill.Config{}, Config{MaxAge: -1}); err == nil {
		t.Error("a negative age was accepted")
	}
}
