package pack

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// exhaustive is the shortest step of all placements of the works.
func exhaustive(c *Cost, works []Work, load []Work) float64 {
	if len(works) == 0 {
		var most Work
		for _, w := range load {
			most = Work{max(most.Tokens, w.Tokens), max(most.Pairs, w.Pairs)}
		}
		return c.Of(most)
	}
	best := 1e300
	for g := range load {
		before := load[g]
		load[g] = before.plus(works[0])
		best = min(best, exhaustive(c, works[1:], load))
		load[g] = before
	}
	return best
}

// TestPackAgainstExhaustive compares the step that takes all of a tiny queue with
// the best of all placements.
func TestPackAgainstExhaustive(t *testing.T) {
	sum, worst := 0.0, 1.0
	const n = 300
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(7, seed))
		ranks := 2 + r.IntN(3)
		f := Former{Cost: Cost{Pair: 9.994e-9, Token: 1.48e-4, Step: .02}, Late: -1}
		f.Clear(ranks)
		for g := range ranks {
			f.SetRank(g, Rank{Open: true, Speed: 1, Tokens: 16384, Seconds: math.Inf(1), Room: math.MaxInt64})
		}
		var works []Work
		for i := range 2 + r.IntN(6) {
			n, cached := 1+r.Int64N(1500), int64(0)
			if r.IntN(2) == 0 {
				cached = r.Int64N(5000)
			}
			w := Work{n, pairsOf(n, cached)}
			works = append(works, w)
			f.Items = append(f.Items, Item{Rank: -1, Left: n, Pos: cached, Pairs: w.Pairs, Seconds: f.Cost.Of(w), Urgency: 1, Seq: int64(i)})
		}
		f.Urgent = len(f.Items)
		f.arrange()
		f.pack(caps{16384, 40_000_000})
		if len(f.Pieces) != len(works) {
			t.Fatalf("seed %d: %d of %d prompts", seed, len(f.Pieces), len(works))
		}
		m := f.most()
		got := f.Cost.Of(Work{int64(m.tokens), int64(m.pairs)})
		want := exhaustive(&f.Cost, works, make([]Work, ranks))
		if got < want*(1-1e-9) {
			t.Fatalf("seed %d: a step of %v s, the best is %v s", seed, got, want)
		}
		sum += got / want
		worst = max(worst, got/want)
	}
	t.Logf("mean %.4f, worst %.4f of the best", sum/n, worst)
	if sum > 1.08*n || worst > 1.5 {
		t.Errorf("mean %.4f, worst %.4f of the best", sum/n, worst)
	}
}

// random is a former with ranks of random speed and load, and light prompts of the queue.
func random(r *rand.Rand) *Former {
	ranks := 1 + r.IntN(9)
	f := &Former{Cost: Cost{Pair: 9.994e-9, Token: 1.48e-4, Step: .02}, Late: -1, Turn: r.IntN(ranks), Density: 5000, Deep: r.IntN(2) == 0}
	f.Clear(ranks)
	f.Unlike = r.IntN(2) == 0
	for i := range ranks {
		g := (f.Turn + i) % ranks
		speed := 1.
		if f.Unlike {
			speed = []float64{.5, 1, 3}[r.IntN(3)]
		}
		f.SetRank(g, Rank{Open: r.IntN(5) > 0, Speed: speed, Tokens: 8192, Seconds: math.Inf(1), Room: 20_000 + r.Int64N(20_000)})
	}
	for i := range 30 {
		n, cached := 1+r.Int64N(1+r.Int64N(3000)), r.Int64N(2000)
		w := Work{n, pairsOf(n, cached)}
		it := Item{Rank: -1, Left: n, Pos: cached, Pairs: w.Pairs, Seconds: f.Cost.Of(w), Urgency: 1, Seq: int64(i)}
		if r.IntN(3) == 0 {
			it.Where = &Where{Local: true, CachedAt: make([]int64, ranks)}
			it.Where.CachedAt[r.IntN(ranks)] = cached
			if r.IntN(3) == 0 {
				it.Where.Pinned = true
				for g := range int32(ranks) {
					if r.IntN(2) == 0 {
						it.Where.Among = append(it.Where.Among, g)
					}
				}
			}
		}
		f.Items = append(f.Items, it)
	}
	f.Urgent = len(f.Items)
	f.arrange()
	for i := range f.placed {
		f.placed[i] = -1
	}
	copy(f.load, f.fresh)
	f.caps = caps{8192, 30_000_000}
	f.allow(f.load, f.caps)
	alike := r.IntN(3) == 0
	for g := range ranks {
		if r.IntN(2) == 0 {
			l := &f.load[g]
			l.rest, l.unfinished, l.claimed, l.claims = r.Float64(), r.Int32N(4), r.Float64(), r.Int32N(3)
			f.fresh[g] = *l
		}
		if alike {
			f.burden(g, 1000, 1_000_000)
		} else {
			f.burden(g, r.Int64N(6000), r.Int64N(20_000_000))
		}
	}
	return f
}

// takesBest calls place for one prompt after the other, and compares where it goes with a
// search through all ranks where it ends as soon as where it would end first, of which the
// first of those that are as good is meant.
func takesBest(t *testing.T, f *Former, place func(i int32), score func(g int, it *Item, pos int64) (float64, bool)) {
	t.Helper()
	for i := range f.Items {
		it := &f.Items[i]
		want, least := -1, math.Inf(1)
		end := func(g int32, others float64, n int32) float64 {
			l := &f.load[g]
			own := it.tokens() - it.at(int(g))
			seconds := f.Cost.Of(Work{own, pairsOf(own, it.at(int(g)))})
			all := l.rest + others
			if f.Deep {
				all = min(all, float64(l.unfinished+n)*seconds)
			}
			return (all + seconds) / l.speed
		}
		first := math.Inf(1)
		for _, g := range f.Open {
			if f.takes(int(g), it) && it.local() {
				first = min(first, end(g, f.load[g].claimed, f.load[g].claims))
			}
		}
		for _, g := range f.Open {
			if pos := it.at(int(g)); f.takes(int(g), it) && end(g, 0, 0) <= first*(1+1e-9) {
				if x, ok := score(int(g), it, pos); ok && (x < least-1e-9 || math.Abs(x-least) <= 1e-9 && want < 0) {
					want, least = int(g), x
				}
			}
		}
		place(int32(i))
		got := -1
		if k := f.placed[i]; k >= 0 {
			got = int(f.Pieces[k].Rank)
		}
		if got != want {
			t.Fatalf("prompt %d goes to rank %d, not %d", i, got, want)
		}
	}
}

// TestStartWholeTakesTheBest: a short prompt goes where the step is shortest with it.
func TestStartWholeTakesTheBest(t *testing.T) {
	for seed := range uint64(2000) {
		f := random(rand.New(rand.NewPCG(3, seed)))
		takesBest(t, f, func(i int32) { f.startWhole(i, &f.Items[i], f.goal(&f.Items[i])) }, func(g int, it *Item, pos int64) (float64, bool) {
			l, n := &f.load[g], it.tokens()-pos
			w := Work{n, pairsOf(n, pos)}
			all := Work{l.tokens, l.pairs}.plus(w)
			x := f.Cost.Of(all) / l.speed
			if pos != it.Pos {
				x *= f.Cost.Of(w) / it.Seconds
			}
			return x, all.Tokens <= l.capTokens && all.Pairs <= l.capPairs
		})
	}
}

// TestBeginTakesTheBest: a prompt that is longer than the step goes where it ends first,
// though not all ranks are looked at.
func TestBeginTakesTheBest(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(5, seed))
		f := random(r)
		for g := range f.load {
			if r.IntN(2) == 0 {
				f.fresh[g].rest = r.Float64()
				f.fresh[g].least = f.fresh[g].rest * r.Float64()
				f.load[g].rest, f.load[g].least = f.fresh[g].rest+float64(r.IntN(2)), f.fresh[g].least
			}
		}
		f.arrange()
		for i := range f.placed {
			f.placed[i] = -1
		}
		f.calmest = math.Inf(1)
		takesBest(t, f, func(i int32) { f.begin(i, &f.Items[i], f.goal(&f.Items[i])) }, func(g int, it *Item, pos int64) (float64, bool) {
			l, n := &f.load[g], it.tokens()-pos
			seconds := f.Cost.Of(Work{n, pairsOf(n, pos)})
			end, least := (l.rest+seconds)/l.speed, min(n, leastChunk)
			return end, l.least >= 2*seconds && l.capTokens-l.tokens >= least && f.cut(g, n, pos, 0) >= least
		})
	}
}

// TestSortNearly sorts what is in any order.
func TestSortNearly(t *testing.T) {
	f := &Former{}
	r := rand.New(rand.NewPCG(6, 6))
	for range 2000 {
		got := make([]int32, r.IntN(40))
		for i := range got {
			got[i] = int32(i*r.IntN(2) + r.IntN(9))
		}
		want := slices.Sorted(slices.Values(got))
		f.sortNearly(got, r.IntN(len(got)+1), func(x, y int32) int { return cmp.Compare(x, y) })
		if !slices.Equal(got, want) {
			t.Fatalf("%v, not %v", got, want)
		}
	}
}

// TestFillTakesTheBest: a light prompt goes where it suits best, though not all ranks are
// looked at.
func TestFillTakesTheBest(t *testing.T) {
	for seed := range uint64(2000) {
		f := random(rand.New(rand.NewPCG(4, seed)))
		room, gap := f.listGaps()
		takesBest(t, f, func(i int32) { f.fillWith(i, &room, &gap) }, func(g int, it *Item, pos int64) (float64, bool) {
			if f.load[g].tokens >= f.load[g].capTokens {
				return 0, false
			}
			n, x := f.fit(it, g, pos)
			return x, n > 0
		})
	}
}

// TestLeavesABusyCache: a prompt waits for the rank that caches its prefix, unless it
// would end sooner elsewhere, behind what has started there and what waits for it.
func TestLeavesABusyCache(t *testing.T) {
	for _, deep := range []bool{false, true} {
		for _, c := range []struct {
			rest       float64
			unfinished int32
			claimed    float64
			claims     int32
			full       bool
			want       int32
		}{
			{.1, 1, 0, 0, false, 1},
			{.1, 1, 0, 0, true, -1}, // it waits
			{100, 1, 0, 0, false, 0},
			{100, 1, 0, 0, true, 0},
			{.1, 1, 100, 1, true, 0},
			{.1, 1, .1, 1, true, -1},
			{.1, 100, 0, 0, false, 1}, // of many small ones
		} {
			f := Former{Cost: Cost{Pair: 9.994e-9, Token: 1.48e-4, Step: .02}, Tokens: 4096, Late: -1, Density: 1000}
			f.Clear(3)
			for g := range 3 {
				f.SetRank(g, Rank{Open: true, Speed: 1, Tokens: 4096, Seconds: math.Inf(1), Room: math.MaxInt64})
			}
			n, cached := int64(18_000), int64(4000)
			w := Work{n - cached, pairsOf(n-cached, cached)}
			f.Items = append(f.Items, Item{Rank: -1, Left: w.Tokens, Pos: cached, Pairs: w.Pairs, Seconds: f.Cost.Of(w), Urgency: 1,
				Where: &Where{Local: true, CachedAt: []int64{0, cached, 0}}})
			f.Pairs = 1000 * w.Pairs
			f.arrange()
			f.placed[0] = -1
			copy(f.load, f.fresh)
			for _, g := range []int{0, 2} {
				f.load[g].rest, f.load[g].unfinished = .05*float64(g), 1
			}
			l := &f.load[1]
			l.rest, l.stock, l.unfinished, l.claimed, l.claims = c.rest, whole(c.rest/f.Cost.Pair/2), c.unfinished, c.claimed, c.claims
			f.caps = caps{4096, mostPairs}
			f.allow(f.load, f.caps)
			if c.full {
				l.tokens = l.capTokens
			}
			if deep {
				f.startDense()
			} else {
				f.calmest = math.Inf(1)
				f.begin(0, &f.Items[0], f.goal(&f.Items[0]))
			}
			got := int32(-1)
			if f.placed[0] >= 0 {
				got = f.Pieces[0].Rank
			}
			if got != c.want {
				t.Errorf("deep %v, %+v: rank %d", deep, c, got)
			}
		}
	}
}
