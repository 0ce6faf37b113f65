package prefill_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/prefill"
)

func unit(tb testing.TB, cfg prefill.Config) *prefill.Balancer {
	tb.Helper()
	b, err := prefill.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// TestEndedComesBackOnce: a request whose last chunk was in the latest step comes
// back when its rank dies, but neither beside another of its id nor a step later.
func TestEndedComesBackOnce(t *testing.T) {
	for _, how := range []string{"at once", "id used again", "a step later", "resized"} {
		b := unit(t, prefill.Config{Ranks: 1})
		must(t, b.Enqueue(prefill.Request{ID: 5, Tokens: 100}))
		if c := b.Step(nil); len(c) != 1 || !c[0].Last {
			t.Fatal(c)
		}
		if ids := b.Ended(nil); !slices.Equal(ids, []prefill.ID{5}) {
			t.Errorf("%s: ended %d", how, ids)
		}
		want := []prefill.Lost{{ID: 5, Tokens: 100, Computed: 100, Queued: true}}
		switch how {
		case "id used again":
			must(t, b.Enter(prefill.Request{ID: 5, Tokens: 7}, 0))
			want = []prefill.Lost{{ID: 5, Tokens: 7}}
		case "a step later":
			b.Step(nil)
			want = nil
		case "resized":
			must(t, b.Resize(2))
			want = nil
		}
		got, err := b.Dead(nil, 0)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %+v, not %+v", how, got, want)
		}
		if n := b.Stats().Requests; n != len(want) && how != "id used again" || how == "id used again" && n != 0 {
			t.Errorf("%s: %d requests are there", how, n)
		}
	}
}

// TestCreditsOfTheDead: what the latest step credited for a prompt of a rank that dies
// is taken back, unless its caller has said meanwhile what is cached.
func TestCreditsOfTheDead(t *testing.T) {
	for _, told := range []int64{-1, 900, 40} {
		b := unit(t, prefill.Config{Ranks: 2, MaxTokens: 1000})
		must(t, b.Drain(1))
		must(t, b.Enqueue(prefill.Request{ID: 1, Tokens: 1000}))
		must(t, b.Enqueue(prefill.Request{ID: 2, Tokens: 1000, Cached: 10, Leader: 1, Shared: 900}))
		for b.Stats().Requests == 2 {
			b.Step(nil)
		}
		want := int64(990)
		if told >= 0 {
			must(t, b.SetCached(2, -1, told))
			want = 1000 - told
		}
		_, err := b.Dead(nil, 0)
		must(t, err)
		must(t, b.Cancel(1))
		must(t, b.Restore(1))
		sum := int64(0)
		for range 5 {
			for _, c := range b.Step(nil) {
				sum += c.Tokens
			}
		}
		if sum != want {
			t.Errorf("told %d: %d tokens are computed, not %d", told, sum, want)
		}
	}
}

// TestCreditsOfOthers: a death takes nothing from whoever has come since, nor from one
// that has meanwhile run elsewhere and has become shorter.
func TestCreditsOfOthers(t *testing.T) {
	credited := func() *prefill.Balancer {
		b := unit(t, prefill.Config{Ranks: 2, MaxTokens: 1000})
		must(t, b.Drain(1))
		must(t, b.Enqueue(prefill.Request{ID: 1, Tokens: 1000}))
		must(t, b.Enqueue(prefill.Request{ID: 2, Tokens: 1000, Cached: 500, Leader: 1, Shared: 900}))
		for b.Stats().Requests == 2 {
			b.Step(nil)
		}
		return b
	}
	dead := func(b *prefill.Balancer, g int) {
		_, err := b.Dead(nil, g)
		must(t, err)
		_ = b.Cancel(1)
		must(t, b.Restore(1))
	}
	left := func(b *prefill.Balancer, id prefill.ID) (sum int64) {
		for range 9 {
			for _, c := range b.Step(nil) {
				if c.ID == id {
					sum += c.Tokens
				}
			}
		}
		return sum
	}
	b := credited()
	must(t, b.Cancel(2))
	must(t, b.Enqueue(prefill.Request{ID: 3, Tokens: 1000, Cached: 800}))
	if dead(b, 0); left(b, 3) != 200 {
		t.Error("what is cached of a request is taken from it that never shared it")
	}
	b = credited()
	_, err := b.Sync(prefill.Changes{}, 1, []prefill.Running{{ID: 2, Tokens: 400, Computed: 300}})
	must(t, err)
	dead(b, 1)
	if dead(b, 0); left(b, 2) != 0 {
		t.Error("one of 400 tokens has 400 cached, and computes some")
	}
}

// TestNobodyWaitsForLess: who has as much cached already does not wait for it.
func TestNobodyWaitsForLess(t *testing.T) {
	b := unit(t, prefill.Config{Ranks: 2, MaxTokens: 512})
	must(t, b.Enqueue(prefill.Request{ID: 1, Tokens: 20_000}))
	must(t, b.Enqueue(prefill.Request{ID: 2, Tokens: 1000, Cached: 900, Leader: 1, Shared: 800}))
	started := false
	for range 3 {
		for _, c := range b.Step(nil) {
			started = started || c.ID == 2
		}
	}
	if !started {
		t.Error("it waits")
	}
}

// TestDoneCredits: what was added and is done is cached for its followers, what is
// cancelled is not.
func TestDoneCredits(t *testing.T) {
	for _, done := range []bool{true, false} {
		b := unit(t, prefill.Config{Ranks: 2})
		g, err := b.Add(prefill.Request{ID: 1, Tokens: 1000})
		must(t, err)
		must(t, b.Enqueue(prefill.Request{ID: 2, Tokens: 1000, CachedAt: []int64{0, 0}, Leader: 1, Shared: 700}))
		want := int64(1000)
		if done {
			must(t, b.Done(1))
			want = 300
		} else {
			must(t, b.Cancel(1))
		}
		sum := int64(0)
		for range 4 {
			for _, c := range b.Step(nil) {
				if sum += c.Tokens; done && c.Rank != g {
					t.Errorf("on rank %d, its prefix is on %d", c.Rank, g)
				}
			}
		}
		if sum != want {
			t.Errorf("done %v: %d tokens are computed, not %d", done, sum, want)
		}
	}
}

// TestQuoteAddsUp: a quote is the work of the request, of its rank and of its share of
// the queue, by speed.
func TestQuoteAddsUp(t *testing.T) {
	b := unit(t, prefill.Config{Ranks: 2, Speed: []float64{1, 3}, Cost: prefill.Cost{Token: 1}})
	must(t, b.Enter(prefill.Request{ID: 1, Tokens: 100}, 0))
	must(t, b.Enter(prefill.Request{ID: 2, Tokens: 600}, 1))
	must(t, b.Enqueue(prefill.Request{ID: 3, Tokens: 400}))
	for g, want := range []float64{100 + 50 + 100, 200 + 50./3 + 100} {
		q, err := b.Quote(prefill.Request{ID: 4, Tokens: 50, Among: []int{g}})
		must(t, err)
		if q.Rank != g || math.Abs(q.Seconds-want) > 1e-9 {
			t.Errorf("%+v, not %v s on rank %d", q, want, g)
		}
	}
	must(t, b.Drain(0))
	must(t, b.Drain(1))
	if q, err := b.Quote(prefill.Request{ID: 4, Tokens: 50}); q != (prefill.Quote{Rank: prefill.Full}) || err != nil {
		t.Error(q, err)
	}
}

// TestAddBySpeed: ranks get work in proportion to their speed, and long prompts go to
// fast ones; without caches and among ranks alike.
func TestAddBySpeed(t *testing.T) {
	cost := prefill.DeepSeekV3H800()
	for _, among := range []bool{false, true} {
		worst, sum := 0.0, 0.0
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, 4))
			speed := []float64{1, 2, 4, 1, 2, 4, 1, 2, 4}
			r.Shuffle(len(speed), func(i, j int) { speed[i], speed[j] = speed[j], speed[i] })
			b := unit(t, prefill.Config{Ranks: len(speed), Speed: speed})
			all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
			var total, power float64
			busy := make([]float64, len(speed))
			for id := range prefill.ID(80 * 9) {
				q := prefill.Request{ID: id, Tokens: 1 + int64(math.Exp(7.5+.8*r.NormFloat64()))}
				if among {
					q.Among = all
				}
				g, err := b.Add(q)
				must(t, err)
				s := cost.Seconds(prefill.WorkOf(q.Tokens, 0)) - cost.Step
				total += s
				busy[g] += s / speed[g]
			}
			for _, s := range speed {
				power += s
			}
			x := slices.Max(busy) / (total / power)
			worst, sum = max(worst, x), sum+x
		}
		t.Logf("among %v: %.3f at most, %.3f on average", among, worst, sum/20)
		if worst > 1.06 || sum/20 > 1.06 {
			t.Errorf("among %v: %.3f at most, %.3f on average", among, worst, sum/20)
		}
	}
}

// TestTiesRotate: requests that come one by one use all ranks, whichever way they come.
func TestTiesRotate(t *testing.T) {
	const ranks = 7
	for name, call := range map[string]func(*prefill.Balancer, prefill.ID) int{
		"add": func(b *prefill.Balancer, id prefill.ID) int {
			g, err := b.Add(prefill.Request{ID: id, Tokens: 900})
			must(t, err)
			must(t, b.Done(id))
			return g
		},
		"among": func(b *prefill.Balancer, id prefill.ID) int {
			g, err := b.Add(prefill.Request{ID: id, Tokens: 900, Among: []int{6, 5, 4, 3, 2, 1, 0}})
			must(t, err)
			must(t, b.Done(id))
			return g
		},
		"step": func(b *prefill.Balancer, id prefill.ID) int {
			must(t, b.Enqueue(prefill.Request{ID: id, Tokens: 900}))
			return b.Step(nil)[0].Rank
		},
	} {
		b := unit(t, prefill.Config{Ranks: ranks})
		got := [ranks]int{}
		for id := range prefill.ID(20 * ranks) {
			got[call(b, id)]++
		}
		for g, n := range got {
			if n != 20 {
				t.Errorf("%s: rank %d gets %d of %d", name, g, n, 20*ranks)
			}
		}
	}
}

// TestKeptKV: with KeepKV a prompt that has ended holds its room until Done, and starts
// again if its rank dies.
func TestKeptKV(t *testing.T) {
	b := unit(t, prefill.Config{Ranks: 1, MaxKV: []int64{1000}, KeepKV: true})
	must(t, b.Enqueue(prefill.Request{ID: 1, Tokens: 600}))
	must(t, b.Enqueue(prefill.Request{ID: 2, Tokens: 600}))
	if c := b.Step(nil); len(c) != 1 || c[0].ID != 1 || !c[0].Last {
		t.Fatal(c)
	}
	if c := b.Step(nil); len(c) != 0 {
		t.Errorf("%+v, though the rank is full", c)
	}
	if k := b.Rank(0); k.KV != 600 || k.Requests != 1 || k.Work != (prefill.Work{}) {
		t.Errorf("%+v", k)
	}
	lost, err := b.Dead(nil, 0)
	must(t, err)
	if !slices.Equal(lost, []prefill.Lost{{ID: 1, Tokens: 600, Computed: 600, Queued: true}}) {
		t.Errorf("%+v", lost)
	}
	must(t, b.Restore(0))
	must(t, b.Cancel(2))
	if c := b.Step(nil); len(c) != 1 || c[0].ID != 1 {
		t.Error(c)
	}
	must(t, b.Enqueue(prefill.Request{ID: 2, Tokens: 600}))
	must(t, b.Done(1))
	if c := b.Step(nil); len(c) != 1 || c[0].ID != 2 {
		t.Error(c)
	}
	must(t, b.Done(2))
	if err := b.Done(2); !errors.Is(err, prefill.ErrUnknown) {
		t.Error(err)
	}
}
