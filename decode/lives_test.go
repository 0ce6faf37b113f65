package decode

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestBins: bins follow one another without holes, and none is wider than its
// share of an octave.
func TestBins(t *testing.T) {
	for _, each := range []int{2, 4} {
		for i := range 400 >> (4 - each) {
			lo, hi := edge(i, each), edge(i+1, each)
			if bin(lo, each) != i || bin(hi-1, each) != i || bin(hi, each) != i+1 || hi-lo > max(1, lo>>each) {
				t.Fatalf("%d an octave: bin %d from %d to %d", 1<<each, i, lo, hi)
			}
		}
	}
}

// TestCurve compares the curve with the product-limit estimate as textbooks have it,
// life by life, of short lives, which have bins of their own; beside those that were
// seen there are as many that outlive all of them as a guess weighs.
func TestCurve(t *testing.T) {
	type seen struct {
		from, to int
		finished bool
	}
	r := rand.New(rand.NewPCG(8, 80))
	for range 50 {
		b := newBalancer(t, Config{Ranks: 1, Output: 5000})
		var all []seen
		for i := range 400 {
			x := seen{from: r.IntN(4) * r.IntN(2)}
			x.to, x.finished = x.from+1+r.IntN(11), r.IntN(3) > 0
			q := Request{ID: ID(i), KV: 100, Generated: int64(x.from)}
			err := b.Enter(q, 0)
			if err == nil {
				err = b.Grow(q.ID, int64(x.to-x.from))
			}
			switch {
			case err != nil:
			case x.finished:
				err = b.Done(q.ID)
			case i%2 == 0:
				err = b.Cancel(q.ID)
			default: // it still runs
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, x)
		}
		b.draw()
		share := 1.0
		for age := range 12 {
			if got := b.lives.curve[age]; math.Abs(got-share) > 1e-12 {
				t.Fatalf("at %d: %v, by the book %v", age, got, share)
			}
			risk, ends := 0.0, 0.0
			for _, x := range all {
				if x.from <= age && x.to >= age {
					risk++
					if x.to == age && !x.finished {
						risk -= 0.5
					}
				}
				if x.to == age && x.finished {
					ends++
				}
			}
			if ends > 0 {
				share *= 1 - ends/(risk+weight)
			}
		}
	}
}

// saturated is a unit at saturating load whose outputs nobody tells: the share of
// rank-steps above capacity, and the mean use of the later half.
func saturated(t *testing.T, seed uint64, draw func(*rand.Rand) int, cancelled float64) (over, used float64) {
	const ranks, steps, capacity, kv = 8, 3000, 100_000, 1000
	r := rand.New(rand.NewPCG(seed, 81))
	b := newBalancer(t, Config{Ranks: ranks, KVCapacity: []int64{capacity}})
	type end struct {
		id   ID
		done bool
	}
	ends := map[int][]end{}
	id := ID(0)
	for step := range steps {
		for _, e := range ends[step] {
			f := b.Cancel
			if e.done {
				f = b.Done
			}
			if err := f(e.id); err != nil {
				t.Fatal(err)
			}
		}
		delete(ends, step)
		for range 10 {
			id++
			g, err := b.Add(Request{ID: id, KV: kv})
			if err != nil {
				t.Fatal(err)
			}
			if g == Full {
				continue
			}
			life, done := draw(r), true
			if r.Float64() < cancelled {
				life, done = 1+int(float64(life)*r.Float64()*r.Float64()), false
			}
			ends[step+life] = append(ends[step+life], end{id, done})
		}
		b.Step()
		for g := range ranks {
			s := b.kv(g)
			if s > capacity {
				over++
			}
			if step >= steps/2 {
				used += float64(s)
			}
		}
	}
	return over / ranks / steps, used / capacity / ranks / (steps - steps/2)
}

// TestColdStart: a unit that starts empty at saturating load, and knows nothing of
// outputs, hardly ever holds more than its capacity, and is used, with cancels and
// without.
func TestColdStart(t *testing.T) {
	for name, draw := range map[string]func(*rand.Rand) int{
		"uniform":     func(r *rand.Rand) int { return 1000 + r.IntN(1000) },
		"exponential": func(r *rand.Rand) int { return 1 + int(1500*r.ExpFloat64()) },
		"lognormal":   func(r *rand.Rand) int { return 1 + int(math.Exp(6.6+1.1*r.NormFloat64())) },
	} {
		for seed := range uint64(2) {
			for _, cancelled := range []float64{0, 0.3, 0.8} {
				over, used := saturated(t, seed, draw, cancelled)
				t.Logf("%s, seed %d, %.0f%% cancelled: %.2f%% over, %.0f%% used", name, seed, 100*cancelled, 100*over, 100*used)
				if over > 0.005 || used < 0.6 {
					t.Errorf("%s, seed %d, %.0f%% cancelled: %.2f%% over, %.0f%% used", name, seed, 100*cancelled, 100*over, 100*used)
				}
			}
		}
	}
}

// admitted is how many requests an idle rank takes, told an output or not.
func admitted(t *testing.T, b *Balancer, output int64) (n int) {
	t.Helper()
	for i := range 500 {
		g, err := b.Add(Request{ID: 1<<50 + ID(i), KV: 1000, Output: output})
		if err != nil {
			t.Fatal(err)
		}
		if g >= 0 {
			n++
		}
	}
	return n
}

// learned is a rank on which 64 have finished after 300 tokens; before = what else
// happens then.
func learned(t *testing.T, cfg Config, before func(b *Balancer)) *Balancer {
	cfg.Ranks, cfg.KVCapacity = 1, []int64{80_000}
	b := newBalancer(t, cfg)
	for wave := range 8 {
		for i := range 8 {
			if err := b.Enter(Request{ID: ID(8*wave + i), KV: 1000}, 0); err != nil {
				t.Fatal(err)
			}
		}
		for range 300 {
			b.Step()
		}
		for i := range 8 {
			if err := b.Done(ID(8*wave + i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if before != nil {
		before(b)
	}
	return b
}

// TestWhatEndsTeach: what did not finish, or was not seen to begin, changes nothing
// of how many are admitted; and what is told beyond all that was seen is not
// believed.
func TestWhatEndsTeach(t *testing.T) {
	base := admitted(t, learned(t, Config{}, nil), 0)
	if base < 48 || base > 61 {
		t.Errorf("%d admitted of 61 that end within capacity", base)
	}
	for name, f := range map[string]func(b *Balancer){
		"cancelled at once": func(b *Balancer) {
			for i := range 5000 {
				_ = b.Enter(Request{ID: ID(1000 + i), KV: 10}, 0)
				_ = b.Cancel(ID(1000 + i))
			}
		},
		"evicted and added again": func(b *Balancer) {
			for i := range 200 {
				id := ID(1000 + i)
				_ = b.Enter(Request{ID: id, KV: 10}, 0)
				_ = b.Grow(id, 150)
				_ = b.Evict(id)
				_ = b.Enter(Request{ID: id, KV: 160, Generated: 150}, 0)
				_ = b.Grow(id, 150)
				_ = b.Done(id)
			}
		},
		"lost": func(b *Balancer) {
			for i := range 200 {
				_ = b.Enter(Request{ID: ID(1000 + i), KV: 10}, 0)
			}
			_, _ = b.Dead(nil, 0)
			_ = b.Restore(0)
		},
		"not seen to begin": func(b *Balancer) {
			for i := range 200 {
				_, _ = b.Sync(Changes{}, 0, []Request{{ID: ID(1000 + i), KV: 10}})
				_ = b.Grow(ID(1000+i), 2)
				_ = b.Done(ID(1000 + i))
			}
		},
	} {
		if got := admitted(t, learned(t, Config{}, f), 0); got < base-2 || got > base+2 {
			t.Errorf("%s: %d admitted, not %d", name, got, base)
		}
	}
	if got := admitted(t, learned(t, Config{}, nil), 32_768); got < base-1 {
		t.Errorf("%d admitted where all declare 32,768, %d where none does", got, base)
	}
}

// TestConfiguredOutput: it holds until weight have finished, whatever else ends, and
// then gives way gradually.
func TestConfiguredOutput(t *testing.T) {
	with := func(finished, cancelled int) int {
		b := newBalancer(t, Config{Ranks: 1, KVCapacity: []int64{80_000}, Output: 2000})
		for i := range finished + cancelled {
			_ = b.Enter(Request{ID: ID(i), KV: 10}, 0)
			_ = b.Grow(ID(i), 20)
			if i < finished {
				_ = b.Done(ID(i))
			} else {
				_ = b.Cancel(ID(i))
			}
		}
		b.draw()
		return admitted(t, b, 0)
	}
	base := with(0, 0)
	if base < 16 || base > 27 {
		t.Errorf("%d admitted of 26 that end within capacity", base)
	}
	if a, b := with(4, 0), with(0, 300); a != base || b != base {
		t.Errorf("%d and %d admitted after a few short ones and many cancels, not %d", a, b, base)
	}
	last := base
	for _, n := range []int{weight, 100, 400, 3000} {
		got := with(n, 0)
		if got < last || n == weight && got > base*3/2 {
			t.Errorf("%d finished after 20 tokens: %d admitted, %d before", n, got, last)
		}
		last = got
	}
	if last < 60 {
		t.Errorf("%d admitted after 3,000 finished after 20 tokens", last)
	}
}

// TestChunksTeachTheSame: what is learned of lives does not depend on how their tokens
// were counted: one by one, in chunks beside the steps, or in chunks alone.
func TestChunksTeachTheSame(t *testing.T) {
	const n, rate = 600, 3 // requests, that come so many tokens after one another
	type life struct {
		came, tokens int64
		finished     bool
	}
	r := rand.New(rand.NewPCG(12, 120))
	lives := make([]life, n)
	for i := range lives {
		lives[i] = life{rate * int64(i), 1 + int64(200*r.ExpFloat64()), r.IntN(4) > 0}
	}
	// chunk = tokens after which a request grows, and step = of these, counted by Step.
	learn := func(chunk, step int64) *Balancer {
		b := newBalancer(t, Config{Ranks: 2})
		had := make([]int64, n)
		do := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		for over, now := 0, int64(0); over < n; now++ {
			steps := now%chunk < step
			if steps {
				b.Step()
			}
			var grown []Growth
			for i, x := range lives {
				age := now - x.came
				if age < 0 || age > x.tokens {
					continue
				}
				if age == 0 {
					do(b.Enter(Request{ID: ID(i), KV: 100}, i%2))
					continue
				}
				if steps {
					had[i]++
				}
				if more := age - had[i]; more > 0 && (more >= chunk-step || age == x.tokens) {
					grown = append(grown, Growth{ID(i), more})
					had[i] = age
				}
			}
			do(b.GrowAll(grown))
			for i, x := range lives {
				if now-x.came != x.tokens {
					continue
				}
				if over++; x.finished {
					do(b.Done(ID(i)))
				} else {
					do(b.Cancel(ID(i)))
				}
			}
		}
		b.draw()
		return b
	}
	want := &learn(1, 1).lives
	for _, by := range [][2]int64{{1, 0}, {16, 1}, {16, 0}, {64, 5}, {1000, 0}} {
		got := &learn(by[0], by[1]).lives
		if got.ends != want.ends || got.sum != want.sum || got.finished != want.finished {
			t.Errorf("chunks of %v: %d finished after %d tokens in all, not %d after %d", by, got.ends, got.sum, want.ends, want.sum)
		}
		in, was := int64(0), int64(0)
		for i := range lifeBins {
			width := edge(i+1, 4) - edge(i, 4)
			in, was = in+got.entered[i]-got.left[i], was+want.entered[i]-want.left[i]
			if cut, had := got.late[i]+got.early[i]-width*got.left[i], want.late[i]+want.early[i]-width*want.left[i]; in != was || cut != had {
				t.Fatalf("chunks of %v: %d lives beyond %d tokens, less %d tokens, not %d, less %d", by, in, edge(i, 4), cut, was, had)
			}
			if math.Abs(got.rest[i]-want.rest[i]) > 0.03*want.rest[0] {
				t.Fatalf("chunks of %v: %.1f tokens to come after %d, not %.1f", by, got.rest[i], edge(i, 4), want.rest[i])
			}
		}
	}
}
