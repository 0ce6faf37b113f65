package decode

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// remodel checks every figure of the model against the requests that are in it.
func remodel(tb testing.TB, b *Balancer) {
	tb.Helper()
	want := b.model
	want.n, want.kv, want.width = 0, 0, 0
	for e := range want.of {
		o := &b.model.of[e]
		want.of[e] = modelLedger{cost: o.cost, lately: o.lately, error: o.error}
	}
	for i := range b.requests {
		if q := &b.requests[i]; q.rank >= 0 {
			if q.waiting && q.model != (modelRanks{}) {
				tb.Fatalf("request %d waits and is in the model", q.id)
			}
			for _, r := range q.model {
				if (r == 0) != (q.model[0] == 0) || int(r) > b.model.ranks {
					tb.Fatalf("request %d is on ranks %v of the model", q.id, q.model)
				}
			}
			want.add(q, b.clock)
		}
	}
	for e := range want.of {
		o, got := &want.of[e], &b.model.of[e]
		o.stale = true
		if o.look(b.model.ranks); got.stale && got.most >= o.most && got.widest >= o.widest {
			o.most, o.widest, o.stale = got.most, got.widest, true
		}
	}
	if want != b.model {
		tb.Fatalf("the model holds %d requests of %d tokens and width %d, and of those that run %d, %d, %d are in it", b.model.n, b.model.kv, b.model.width, want.n, want.kv, want.width)
	}
}

// traffic is a unit under a load.
type traffic struct {
	b    *Balancer
	r    *rand.Rand
	draw func(r *rand.Rand) (kv, output int64)
	open float64 // requests in a step; 0 = every one that ends is replaced
	add  bool    // one by one, the longest first
	ends map[int64][]ID
	last ID
}

// start fills the unit with n requests a rank, each anywhere in its life.
func (x *traffic) start(tb testing.TB, n int) {
	tb.Helper()
	x.ends = map[int64][]ID{}
	x.place(tb, n*x.b.cfg.Ranks, true)
}

// place draws requests and places them together.
func (x *traffic) place(tb testing.TB, n int, old bool) {
	tb.Helper()
	come, lives := make([]Request, n), map[ID]int64{}
	for i := range come {
		kv, output := x.draw(x.r)
		if old {
			gone := x.r.Int64N(output)
			kv, output = kv+gone, output-gone
		}
		x.last++
		come[i] = Request{ID: x.last, KV: kv}
		lives[x.last] = output
	}
	ranks := make([]int, n)
	err := error(nil)
	if x.add {
		slices.SortFunc(come, func(a, b Request) int { return cmp.Compare(b.KV, a.KV) })
		for i, q := range come {
			if ranks[i], err = x.b.Add(q); err != nil {
				tb.Fatal(err)
			}
		}
	} else if ranks, err = x.b.Batch(ranks[:0], come); err != nil {
		tb.Fatal(err)
	}
	for i, g := range ranks {
		if g < 0 {
			tb.Fatal("refused")
		}
		end := x.b.clock + lives[come[i].ID]
		x.ends[end] = append(x.ends[end], come[i].ID)
	}
}

// step makes so many steps, and returns what they took beyond an even unit's, as a
// share of it.
func (x *traffic) step(tb testing.TB, n int) (waste float64) {
	tb.Helper()
	took, ideal := 0.0, 0.0
	for range n {
		took += x.b.StepSeconds()
		c := &x.b.cfg.Cost
		ideal += c.Step + (c.KV*float64(x.b.sumBase+x.b.sumWidth*x.b.clock)+c.Request*float64(x.b.sumWidth))/float64(x.b.active)
		x.b.Step()
		ended := x.ends[x.b.clock]
		delete(x.ends, x.b.clock)
		for _, id := range ended {
			if err := x.b.Done(id); err != nil {
				tb.Fatal(err)
			}
		}
		come := len(ended)
		if x.open > 0 {
			come = int(x.r.ExpFloat64()*x.open + x.r.Float64())
		}
		x.place(tb, come, false)
	}
	return took/ideal - 1
}

// lognormal draws prompts and outputs around their medians.
func lognormal(prompt, sigma float64, most int64, output float64) func(r *rand.Rand) (kv, output int64) {
	draw := func(r *rand.Rand, median, sigma float64) int64 {
		return max(1, int64(median*math.Exp(sigma*r.NormFloat64())))
	}
	return func(r *rand.Rand) (int64, int64) { return min(draw(r, prompt, sigma), most), draw(r, output, 0.5) }
}

// TestModelIsTheUnitInSmall: the model holds the unit's share of requests, and
// they are as long as all are, though within a step the longest come first.
func TestModelIsTheUnitInSmall(t *testing.T) {
	const ranks = 150
	for _, x := range []traffic{{}, {add: true}, {add: true, open: 25}} {
		u := &x
		u.b, u.r, u.draw = newBalancer(t, Config{Ranks: ranks}), rand.New(rand.NewPCG(31, 32)), lognormal(2000, 1, 60_000, 120)
		u.start(t, 20)
		u.step(t, 100)
		var all, in, off, most float64 // tokens; requests
		for range 40 {
			u.step(t, 10)
			n := [2]float64{}
			kv := [2]float64{}
			for i := range u.b.requests {
				if q := &u.b.requests[i]; q.rank >= 0 {
					at := min(q.model[0], 1)
					n[at]++
					kv[at] += float64(q.kv(u.b.clock))
				}
			}
			all += (kv[0] + kv[1]) / (n[0] + n[1])
			in += kv[1] / n[1]
			short := (n[0]+n[1])*modelled/ranks - n[1]
			off += short / 40
			most = max(most, math.Abs(short))
		}
		remodel(t, u.b)
		if math.Abs(off) > 4 || most > 40 || math.Abs(in/all-1) > 0.08 {
			t.Errorf("add %v, open %v: the model is short of %.1f requests on average, %.0f at most, and a mean one of it is %.3f of one of all", u.add, u.open, off, most, in/all)
		}
	}
}

// TestModelOutlivesResize: in a unit of another size the model holds what runs, and
// knows what rules have cost.
func TestModelOutlivesResize(t *testing.T) {
	u := &traffic{b: newBalancer(t, Config{Ranks: 20}), r: rand.New(rand.NewPCG(37, 38)), draw: lognormal(2000, 1, 60_000, 120)}
	u.start(t, 20)
	u.step(t, 200)
	was := u.b.model
	for _, ranks := range []int{30, 40} {
		if err := u.b.Resize(ranks); err != nil {
			t.Fatal(err)
		}
		remodel(t, u.b)
		m := &u.b.model
		all := float64(u.b.ids.Len()) * float64(m.ranks) / float64(ranks)
		if math.Abs(float64(m.n)-all) > 2 || m.chosen != was.chosen || m.came != was.came || m.steps != was.steps || m.of[1].cost != was.of[1].cost {
			t.Errorf("%d ranks: %d requests in the model, want %.0f; rule %d of %d after %d steps", ranks, m.n, all, m.chosen, was.chosen, m.steps)
		}
		was = *m
	}
	u.step(t, 50)
	remodel(t, u.b)
}

// TestRuleFitsTraffic: on traffic for which one rule is best, that is followed, or
// one that is about as good; and what is followed wastes little more than the best.
func TestRuleFitsTraffic(t *testing.T) {
	alike := func(*rand.Rand) (int64, int64) { return 2000, 150 }
	tall := func(r *rand.Rand) (int64, int64) {
		kv, output := lognormal(700, 1, 20_000, 200)(r)
		if r.IntN(100) == 0 {
			kv += 40_000
		}
		return kv, output
	}
	for _, x := range []struct {
		name string
		traffic
	}{
		{"alike", traffic{draw: alike, open: 5}},
		{"short answers", traffic{draw: lognormal(1500, 0.7, 16_000, 20)}},
		{"few long prompts", traffic{draw: tall}},
		{"growth", traffic{draw: lognormal(200, 1, 8000, 900)}},
	} {
		run := func(rule int) (waste float64) { // -1 = that which is followed
			const runs = 3
			for seed := range uint64(runs) {
				u := x.traffic
				u.b, u.r = newBalancer(t, Config{Ranks: 40}), rand.New(rand.NewPCG(33, seed))
				if rule >= 0 {
					u.b.model = model{chosen: rule, steps: 1} // of nothing, so that it stays
				}
				u.start(t, 20)
				u.step(t, 300)
				waste += 100 * u.step(t, 300) / runs
			}
			return waste
		}
		least, sum := math.Inf(1), 0.0
		for e := range rules {
			w := run(e)
			least = min(least, w)
			sum += w / rules
		}
		if w := run(-1); w > least+max(0.15, 0.3*(sum-least)) {
			t.Errorf("%s: %.2f%% waste, %.2f%% with the best rule, %.2f%% with any", x.name, w, least, sum)
		} else {
			t.Logf("%s: %.2f%% waste, %.2f%% with the best rule, %.2f%% with any", x.name, w, least, sum)
		}
	}
}

// TestLevels: what the unit pays for anyway, and what lies beyond it costs, under
// each rule, by hand.
func TestLevels(t *testing.T) {
	c := &Cost{KV: 2, Request: 100}
	x := &load{ranks: 10, kv: 10_000, width: 83, batch: 15, most: 1500, widest: 12, long: 4000, limit: unlimited}
	x.spread()
	mean := 10_000.0 / 83
	for _, want := range []struct {
		name     string
		r        rule
		kv       float64 // level
		at10     float64 // cost of 10 requests
		at11     float64
		at13     float64
		overflow float64 // cost of 100 tokens beyond the level
	}{
		{"tall", tall, 1000 + 400 + 125, 0, 0.3 * 50 * 1.5, 50 * 3 * 2.5, 200 * (1 + 0.5*100/mean)},
		{"flat", flat, 1000 + 200, 0, 200 * 1.2, 200 * 3 * 1.6, 200 * (1 + 0.2*100/mean)},
		{"wide", wide, 1000 + 0.15*mean + 300, 0, 300 * 1.2, 300 * 3 * 1.6, 200 * (1 + 0.2*100/mean)},
		{"even", even, 1500, 0, 300, 900, 200},
		{"brim", brim, 1500, 0, 0, 200, 200},
		{"round", round, 1500 + mean, 0, 0, 0, 200},
	} {
		l := levelOf(&want.r, c, x)
		if l.fair != 10 {
			t.Errorf("%s: %d requests on a rank in an even spread of 98 over 10", want.name, l.fair)
		}
		overflow := 0.0
		if want.kv < 1<<60 {
			overflow = l.overKV(int64(l.kv)+100) - l.overKV(int64(l.kv)) // the level's fraction cancels but for the bend
		}
		got := []float64{l.kv, l.overCount(10), l.overCount(11), l.overCount(13), overflow}
		for i, y := range []float64{want.kv, want.at10, want.at11, want.at13, want.overflow} {
			if math.Abs(got[i]-y) > 1e-5+0.02*math.Abs(y) {
				t.Errorf("%s: figure %d is %v, by hand %v", want.name, i, got[i], y)
			}
		}
	}
	for limit, want := range map[float64]float64{1600: 1300, 1200: 1100, 900: 1000} {
		x.limit = limit
		if l := levelOf(&tall, c, x); l.kv != want {
			t.Errorf("where ranks are full at %v the level is %v, by hand %v", limit, l.kv, want)
		}
	}
	if l := levelOf(&even, &Cost{Request: 1}, x); l.kv < 1<<60 {
		t.Errorf("KV use that costs nothing has a level of %v", l.kv)
	}
}

// TestModelPlacesByTheRules: in the model a request goes where the costs say, as in
// the unit.
func TestModelPlacesByTheRules(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 36))
	free := 0
	for n := range 20_000 {
		var o modelLedger
		ranks := 2 + r.IntN(modelled-1)
		x := load{ranks: int64(ranks), long: r.Int64N(5000), limit: float64(1000 + r.IntN(20_000))}
		for g := range ranks {
			o.kv[g], o.width[g] = 1000+r.Int64N(1+r.Int64N(9000)), 4+r.Int64N(1+r.Int64N(4))
			x.kv, x.width = x.kv+o.kv[g], x.width+o.width[g]
		}
		o.stale = true
		o.look(ranks)
		kv, width := r.Int64N(3000), 1+r.Int64N(2)
		x.kv, x.width, x.batch, x.most, x.widest = x.kv+kv, x.width+width, r.Int64N(20), o.most, o.widest
		c := &Cost{KV: float64(r.IntN(3)), Request: float64(r.IntN(3) * 100)}
		x.spread()
		l := levelOf(&each[n%rules], c, &x)
		turn := r.IntN(ranks)
		full := true
		for g := range ranks {
			full = full && o.kv[g]+kv > int64(l.limit)
		}
		want := choice{rank: Full}
		if l.turns && !full {
			want.turn = turn
		}
		for g := range ranks {
			cost := l.overCount(o.width[g]+width) + l.overKV(o.kv[g]+kv)
			if full {
				cost = float64(o.kv[g]) // the emptiest
			}
			at := o.kv[g]
			if l.turns {
				at = 0
			}
			if full || o.kv[g]+kv <= int64(l.limit) {
				want.offer(g, cost, at)
			}
		}
		if got := o.best(ranks, turn, &l, kv, width); got != want.rank {
			t.Fatalf("case %d: rank %d, by the costs %d: %+v", n, got, want.rank, l)
		}
		if want.cost == 0 {
			free++
		}
	}
	if free < 2000 || free > 18_000 {
		t.Errorf("%d of 20,000 cost nothing: hardly a test", free)
	}
}

// TestModelRanks: a request is in the model under all rules or under none.
func TestModelRanks(t *testing.T) {
	m := model{ranks: 3}
	whole := modelRanks{1, 2, 3, 3, 2, 1}
	if got, ok := m.unpack(whole.pack()); !ok || got != whole {
		t.Errorf("%v is read as %v, %v", whole, got, ok)
	}
	for _, k := range []modelRanks{{1, 2, 3, 0, 2, 1}, {0, 2, 3, 3, 2, 1}, {1, 2, 4, 3, 2, 1}} {
		if _, ok := m.unpack(k.pack()); ok {
			t.Errorf("%v is taken", k)
		}
	}
	if _, ok := m.unpack(whole.pack() | 1<<(8*rules)); ok {
		t.Error("a rank under a rule that there is not is taken")
	}
}

// TestNoRulePutsGiantOnGiant: not for the sake of a few requests, whatever rule is
// followed: both would be paid for as long as they run.
func TestNoRulePutsGiantOnGiant(t *testing.T) {
	c := DeepSeekV3H800()
	for e := range each {
		var o modelLedger
		copy(o.kv[:], []int64{400_000, 200_000, 200_000, 200_000})
		copy(o.width[:], []int64{50, 60, 60, 60})
		x := load{ranks: 4, kv: 1_300_000, width: 231, most: 400_000, widest: 60, long: 300_000, limit: unlimited}
		x.spread()
		l := levelOf(&each[e], &c, &x)
		if g := o.best(4, 0, &l, 300_000, 1); g == 0 {
			t.Errorf("rule %d puts 300,000 tokens on the rank that holds 400,000", e)
		}
	}
}

// TestChangesRuleForAReason: another rule is followed once it is seen to be cheaper by
// more than its costs vary, which they do less on average where they only flicker.
func TestChangesRuleForAReason(t *testing.T) {
	const life, part = 80, 80 / parts
	for _, x := range []struct {
		name  string
		swing func(step int) int64 // what the other rule costs beyond 1000
		from  int                  // the step from which it is followed; 0 = not in three lives
	}{
		{"cheaper", func(int) int64 { return -1 }, 2 * part},
		{"as dear", func(int) int64 { return 0 }, 0},
		{"dearer", func(int) int64 { return 1 }, 0},
		{"cheaper, and flickers", func(step int) int64 { return -1 + 20*int64(step%2) - 10 }, 2 * part},
		{"cheaper, and swings", func(step int) int64 { return 39 - 80*int64(step/part%2) }, 0},
	} {
		m, from := model{ranks: 2, n: 1}, 0
		for step := range 3 * life {
			for e := range m.of {
				m.of[e].kv[0] = 1000
			}
			m.of[4].kv[0] += x.swing(step)
			if m.step(&Cost{KV: 1}, life); from == 0 && m.chosen == 4 {
				from = step + 1
			}
		}
		if from != x.from || m.chosen != min(x.from, 1)*4 {
			t.Errorf("%s: followed from step %d on, want %d; in the end rule %d is", x.name, from, x.from, m.chosen)
		}
	}
}

// TestRulesBeginAlike: the model of a unit that is filled holds the same under each rule.
func TestRulesBeginAlike(t *testing.T) {
	for _, add := range []bool{false, true} {
		u := traffic{add: add, b: newBalancer(t, Config{Ranks: 60}), r: rand.New(rand.NewPCG(39, 40)), draw: lognormal(2000, 1, 60_000, 120)}
		u.start(t, 20)
		for e := range u.b.model.of {
			if u.b.model.of[e] != u.b.model.of[0] {
				t.Errorf("add %v: rule %d begins with other ranks than rule 0", add, e)
			}
		}
	}
}

// TestLevelUnlike: the level of ranks that differ in capacity is not that of the first.
func TestLevelUnlike(t *testing.T) {
	var levels []float64
	for _, capacity := range [][]int64{{3000, 1 << 20, 1 << 20}, {1 << 20, 1 << 20, 3000}} {
		b := newBalancer(t, Config{Ranks: 3, KVCapacity: capacity, Cost: Cost{KV: 1, Request: 1}})
		for id := range 30 {
			if _, err := b.Add(Request{ID: ID(id), KV: 2000}); err != nil {
				t.Fatal(err)
			}
		}
		r := rule{share: .5, spare: 2, count: 1}
		levels = append(levels, b.level(&r, 100, 1, 1).kv)
	}
	if levels[0] != levels[1] {
		t.Errorf("levels of %v by the order of ranks", levels)
	}
}

// TestFillLeavesRoom: what comes before the first step, jointly or one by one, leaves
// the rank of a giant to it, though requests could be spread evenly, and ranks take turns
// where all are alike; from the first step on the rule of the model is followed.
func TestFillLeavesRoom(t *testing.T) {
	beside := func(joint bool, steps int) int { // requests beside the giant, of ten on a rank
		b := newBalancer(t, Config{Ranks: 4})
		for range steps { // the model has seen a unit in which nothing mattered
			if _, err := b.Add(Request{ID: 1}); err != nil {
				t.Fatal(err)
			}
			b.Step()
			if err := b.Done(1); err != nil {
				t.Fatal(err)
			}
			b.model.chosen = slices.Index(each[:], even)
		}
		come := []Request{{ID: 1, KV: 100_000}}
		for i := range ID(39) {
			come = append(come, Request{ID: 2 + i, KV: 1000})
		}
		if joint {
			if _, err := b.Batch(nil, come); err != nil {
				t.Fatal(err)
			}
		} else {
			for _, r := range come {
				if _, err := b.Add(r); err != nil {
					t.Fatal(err)
				}
			}
		}
		g, err := b.Where(1)
		if err != nil {
			t.Fatal(err)
		}
		return b.Rank(g).Requests - 1
	}
	for _, joint := range []bool{false, true} {
		if n := beside(joint, 0); n > 3 {
			t.Errorf("joint %v: %d beside a giant in an empty unit", joint, n)
		}
		if n := beside(joint, 1); n < 8 {
			t.Errorf("joint %v: %d beside a giant where requests are to be spread evenly", joint, n)
		}
	}
	b := newBalancer(t, Config{Ranks: 2})
	for _, x := range []struct {
		kv, next int64
		fill     *rule
		follow   int
	}{{0, 1, &round, whenAlike}, {5000, 3000, &round, whenAlike}, {7000, 3000, &wide, whenAlike}, {1, 1, &wide, toBegin}} {
		if x.kv > 0 {
			if _, err := b.Add(Request{ID: ID(x.kv), KV: x.kv, Waiting: true}); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.rule(x.next); got != x.fill {
			t.Errorf("beside %d tokens %d are filled in by %+v", x.kv, x.next, *got)
		}
		if b.Step(); b.model.chosen != x.follow { // nothing runs
			t.Errorf("after %d tokens the unit follows rule %d", x.kv, b.model.chosen)
		}
	}
	for n := range 3 { // the rule that is followed stands from the first step on with something that runs
		if b.Step(); n == 0 {
			if err := b.Start(5000); err != nil {
				t.Fatal(err)
			}
		} else if b.model.chosen != min(n-1, 1)*2 {
			t.Errorf("rule %d is followed after %d steps", b.model.chosen, n)
		}
		if n == 1 {
			b.model.chosen = 2
		}
	}
	b = newBalancer(t, Config{Ranks: 2})
	if _, err := b.Add(Request{KV: 20_000}); err != nil {
		t.Fatal(err)
	}
	if b.rule(15_001) != &round || b.rule(14_999) != &wide {
		t.Error("a request costs as much as 5,000 tokens")
	}
	if b := newBalancer(t, Config{Ranks: 2, Cost: Cost{KV: 1}}); b.rule(1) != &wide {
		t.Error("ranks take turns where requests cost nothing but their KV use")
	}
	if b := newBalancer(t, Config{Ranks: 1}); b.rule(1) != &each[b.model.chosen] {
		t.Error("one rank has no model, and no rule of its own")
	}
}

// TestTurnsEverywhere: where requests are alike, the next is the rank whose turn it is and
// not the one of most KV use, in whatever way one is placed, and in the model too.
func TestTurnsEverywhere(t *testing.T) {
	in := func(turn bool, place func(b *Balancer) (int, error)) (int, *Balancer) {
		b := newBalancer(t, Config{Ranks: 3})
		order, after := []int64{6000, 6100, 6200}, 0 // beyond what a request costs, were they beside none
		if turn {
			order, after = []int64{6200, 6000, 6100}, 2
		}
		for g, kv := range order {
			enter(t, b, Request{KV: kv, Prefix: 1, Shared: 4000}, g)
		}
		b.turn = after
		g, err := place(b)
		if err != nil {
			t.Fatal(err)
		}
		return g, b
	}
	for name, place := range map[string]func(b *Balancer) (int, error){
		"add":    func(b *Balancer) (int, error) { return b.Add(Request{ID: 1 << 40, KV: 6000}) },
		"among":  func(b *Balancer) (int, error) { return b.Add(Request{ID: 1 << 40, KV: 6000, Among: []int{0, 1, 2}}) },
		"prefix": func(b *Balancer) (int, error) { return b.Add(Request{ID: 1 << 40, KV: 6000, Prefix: 1, Shared: 4000}) },
		"quote": func(b *Balancer) (int, error) {
			q, err := b.Quote(Request{ID: 1 << 40, KV: 6000})
			return q.Rank, err
		},
		"batch": func(b *Balancer) (int, error) {
			ranks, err := b.Batch(nil, []Request{{ID: 1 << 40, KV: 6000}})
			return ranks[0], err
		},
	} {
		if g, _ := in(false, place); g != 0 {
			t.Errorf("%s: rank %d where it is 0's turn", name, g)
		}
		if g, _ := in(true, place); g != 2 {
			t.Errorf("%s: rank %d where it is 2's turn", name, g)
		}
	}
	for _, steps := range []int{0, 1} {
		b := newBalancer(t, Config{Ranks: 4})
		b.Step()
		b.model.steps = int64(steps)
		for n := range 9 {
			id, g, err := add(b, Request{KV: 6000})
			if err != nil || g != n%4 {
				t.Fatalf("request %d goes to rank %d (%v)", n, g, err)
			}
			if k := b.requests[b.ids.Find(uint64(id))].model[whenAlike]; int(k) != g+1 {
				t.Errorf("request %d is on rank %d, in the model on %d from 1 on", n, g, k)
			}
			if err := b.Done(id); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestResizeKeepsPrices: a unit of another size keeps what is known of the rules, and how
// well.
func TestResizeKeepsPrices(t *testing.T) {
	var m model
	m.resize(8)
	for e := range m.of {
		m.of[e] = modelLedger{cost: 1 + float64(e), lately: 2, error: 3, most: 4}
	}
	m.resize(16)
	for e := range m.of {
		if want := (modelLedger{cost: 1 + float64(e), lately: 2, error: 3}); m.of[e] != want {
			t.Errorf("rule %d: %+v", e, m.of[e])
		}
	}
}
