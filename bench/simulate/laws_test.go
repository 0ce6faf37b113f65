package simulate

import (
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/experts"
)

// world is a tiny system and what it is asked.
type world struct {
	Config
	rate  float64
	input float64 // of prompts' usual length
	out   float64 // of the usual generated
	seed  uint64
}

func (w *world) units(change func(*cost.Unit)) {
	change(&w.Prefill)
	change(&w.Decode)
}

func (w *world) gpu(change func(*cost.GPU)) {
	w.units(func(u *cost.Unit) { change(&u.GPU) })
}

// measure is a figure of a run; that of decode alone needs no prefill.
type measure struct {
	of     func(*Result) float64
	decode bool
}

// asked is a run without changes.
type asked struct {
	load   float64
	decode bool
}

// full is the requests a second that tiny's decode unit carries: it holds 128 a GPU.
const full = 3100

// TestSystemLaws changes one thing at a time in the whole system and demands how it
// answers: the direction, and within which bounds. Those of one step alone are package
// cost's.
func TestSystemLaws(t *testing.T) {
	type change func(*world)
	half := func(x *float64) { *x /= 2 }
	twice := func(x *float64) { *x *= 2 }
	more := func(x float64) change { return func(w *world) { w.rate *= x } }
	policy := func(prefill, decode string, e experts.Policy) change {
		return func(w *world) {
			p, err := FindPolicy(prefill, decode, e.String())
			if err != nil {
				t.Fatal(err)
			}
			w.Policy = p
		}
	}
	ttft := measure{func(r *Result) float64 { return r.TTFT50 }, false}
	late := measure{func(r *Result) float64 { return r.TTFT99 }, false}
	tpot := measure{func(r *Result) float64 { return r.TPOT50 }, true}
	tokens := measure{func(r *Result) float64 { return r.TokensPerSecond }, false}
	served := measure{func(r *Result) float64 { return r.ServedPerSecond }, true}
	held := measure{func(r *Result) float64 { return float64(r.PeakInFlight) }, true}
	uneven := measure{func(r *Result) float64 { return r.DecodeExperts }, true}
	kv := measure{func(r *Result) float64 { return r.KVImbalance }, true}
	computed := measure{func(r *Result) float64 { return float64(r.InputTokens - r.HitTokens) }, false}
	step := measure{func(r *Result) float64 { return r.DecodeStep }, true}
	prefillStep := measure{func(r *Result) float64 { return r.PrefillStep }, false}
	good := measure{func(r *Result) float64 { return r.GoodPerSecond }, false}
	sent := measure{func(r *Result) float64 { return 1 + float64(r.Evictions) }, true}
	long := change(func(w *world) { w.input *= 3 })
	tight := change(func(w *world) { w.units(func(u *cost.Unit) { u.GPU.Memory = 10.9e9 }) })
	base := tiny(ours())
	base.setTopics(base.Seconds)
	plain := map[asked]*Result{}
	for _, c := range []struct {
		name        string
		load        float64 // of both, against full; 0 = .6
		first, then change  // first of both
		of          measure
		low, high   float64 // after the change / before
	}{
		{"half the memory bandwidth", 0, nil, func(w *world) { w.gpu(func(g *cost.GPU) { half(&g.HBM) }) }, tpot, 1.2, 2},
		{"twice the memory bandwidth", 0, nil, func(w *world) { w.gpu(func(g *cost.GPU) { twice(&g.HBM) }) }, tpot, .5, .9},
		{"half the computing: first tokens", 0, nil, func(w *world) { w.gpu(func(g *cost.GPU) { half(&g.FP8); half(&g.BF16) }) }, ttft, 1.1, 4},
		{"half the computing: tokens", 0, nil, func(w *world) { w.gpu(func(g *cost.GPU) { half(&g.FP8); half(&g.BF16) }) }, tpot, 1, 1.8},
		{"half the RDMA: first tokens", 0, nil, func(w *world) { w.gpu(func(g *cost.GPU) { half(&g.RDMA) }) }, ttft, 1, 4},
		{"half the RDMA: tokens", 0, nil, func(w *world) { w.gpu(func(g *cost.GPU) { half(&g.RDMA) }) }, tpot, 1, 1.8},
		{"a quarter of NVLink where all share it", 0, func(w *world) { w.gpu(func(g *cost.GPU) { g.Domain = 16 }) }, func(w *world) { w.gpu(func(g *cost.GPU) { half(&g.NVLink); half(&g.NVLink) }) }, tpot, 1.02, 4},
		{"twice everything on the data sheet", 0, nil, func(w *world) {
			w.gpu(func(g *cost.GPU) {
				for _, x := range []*float64{&g.HBM, &g.FP8, &g.BF16, &g.RDMA, &g.NVLink} {
					twice(x)
				}
			})
		}, tpot, .45, .9},
		{"twice the layers", 0, nil, func(w *world) {
			w.units(func(u *cost.Unit) { u.Model.Layers *= 2; u.GPU.Memory *= 2; twice(&u.Factors.Host) })
		}, tpot, 1.9, 2.1},

		{"load 30% against 10%", .1, nil, more(.3 / .1), tokens, 2.6, 3.4},
		{"load 60% against 30%", .3, nil, more(.6 / .3), tokens, 1.8, 2.2},
		{"load 90% against 60%", .6, nil, more(.9 / .6), tokens, 1.4, 1.6},
		{"load 120% against 90%", .9, nil, more(1.2 / .9), tokens, 1, 1.2},
		{"load 160% against 120%", 1.2, nil, more(1.6 / 1.2), served, .95, 1.05},
		{"load 30% against 10%: time a token", .1, nil, more(.3 / .1), tpot, .99, 1.2},
		{"load 60% against 30%: time a token", .3, nil, more(.6 / .3), tpot, 1, 1.25},
		{"load 90% against 60%: time a token", .6, nil, more(.9 / .6), tpot, 1, 1.3},
		{"load 120% against 90%: the first token", .9, nil, more(1.2 / .9), late, 1, 10},
		{"twice the units and requests: tokens", .4, nil, func(w *world) { w.Plan[0].Fleet = Fleet{2, 2}; w.rate *= 2 }, tokens, 1.8, 2.2},
		{"twice the units and requests: time a token", .4, nil, func(w *world) { w.Plan[0].Fleet = Fleet{2, 2}; w.rate *= 2 }, tpot, .97, 1.03},
		{"a prefill unit more", .9, nil, func(w *world) { w.Plan[0].Fleet.Prefill++ }, late, .3, 1},
		{"a decode unit more", .9, nil, func(w *world) { w.Plan[0].Fleet.Decode++ }, tpot, .8, 1},
		{"another seed", 0, nil, func(w *world) { w.seed++; w.Seed++ }, tpot, .97, 1.03},

		{"twice the prompts' length: first tokens", 0, nil, func(w *world) { twice(&w.input) }, ttft, 1.1, 4},
		{"twice the prompts' length: KV", 0, nil, func(w *world) { twice(&w.input) }, tpot, 1, 1.3},
		{"twice the generated: tokens", .4, nil, func(w *world) { twice(&w.out) }, tokens, 1.8, 2.2},
		{"twice the generated: requests in flight", .4, nil, func(w *world) { twice(&w.out) }, held, 1.6, 2.4},
		{"half cached", 0, func(w *world) { w.Hit = 0 }, func(w *world) { w.Hit = .5 }, computed, .5, .7},
		{"half cached: first tokens", 0, func(w *world) { w.Hit = 0 }, func(w *world) { w.Hit = .5 }, ttft, .2, .95},
		{"FP8 KV", 0, nil, func(w *world) { w.units(func(u *cost.Unit) { u.KVBits = 8 }) }, tpot, .7, 1},
		{"less memory", .9, nil, tight, held, 1, 3},
		{"less memory: none evicted", .9, nil, tight, sent, 1, 1},
		{"half the requests a GPU: served", .9, nil, func(w *world) { w.MaxRequests /= 2 }, served, .4, .9},
		{"half the requests a GPU: a step", .9, nil, func(w *world) { w.MaxRequests /= 2 }, step, .5, .99},
		{"half the tokens a prefill step", .9, long, func(w *world) { w.MaxTokens /= 2 }, prefillStep, .4, 1},

		{"an expert more a GPU", 0, nil, func(w *world) { w.units(func(u *cost.Unit) { u.Slots++; u.GPU.Memory = 16e9 }) }, uneven, .8, 1},
		{"no redundant experts", 0, nil, func(w *world) { w.units(func(u *cost.Unit) { u.Slots-- }) }, uneven, 1.02, 2},
		{"one kind of text", 0, nil, func(w *world) { w.Topics = 1 }, uneven, .9, 2},
		{"experts as they are: imbalance", 0, nil, policy("moelb", "moelb", experts.Alone), uneven, 1.1, 4},
		{"experts as they are: time a token", 0, nil, policy("moelb", "moelb", experts.Alone), tpot, 1.005, 2},
		{"decode by turns: KV", 0, nil, policy("moelb", "round-robin", experts.Optimal), kv, 1.05, 3},
		{"decode by turns: time a token", 0, nil, policy("moelb", "round-robin", experts.Optimal), tpot, 1, 1.4},
		{"prefill by turns", .9, nil, policy("round-robin", "moelb", experts.Optimal), late, 1.1, 20},
		{"two tokens a step, never accepted", 0, func(w *world) { w.Queries, w.Acceptance = 1, 0 }, func(w *world) { w.Queries = 2 }, tpot, 1.05, 2.2},
		{"two tokens a step, always accepted", 0, func(w *world) { w.Acceptance = 1 }, func(w *world) { w.Queries = 2 }, tpot, .5, .98},
		{"no overlap", .9, long, func(w *world) { w.units(func(u *cost.Unit) { u.Overlap = cost.NoOverlap }) }, ttft, 1, 3},
		{"FP4 experts where FP4 computes", 0, func(w *world) { w.gpu(func(g *cost.GPU) { g.FP4 = 2 * g.FP8 }) }, func(w *world) { w.units(func(u *cost.Unit) { u.ExpertBits = 4 }) }, tpot, .5, 1},
		{"a node less in decode", 0, nil, func(w *world) { w.Failures = []Failure{{Second: .2, Until: 100, Decode: true, Rank: 8, Ranks: 4}} }, tpot, 1, 2},
		{"a stricter aim", 0, func(w *world) { w.TTFT, w.TPOT = .02, 1 }, func(w *world) { w.TTFT = .006 }, good, .1, .99},
		{"an aim that all keep", 0, func(w *world) { w.TTFT, w.TPOT = .2, 1 }, func(w *world) { w.TTFT = 2 }, good, 1, 1.01},
	} {
		if c.load == 0 {
			c.load = .6
		}
		base := base
		base.DecodeOnly = c.of.decode
		at := func(changes ...change) *Result {
			w := world{Config: base, rate: c.load * full, input: 1, out: 1, seed: 1}
			w.Plan = slices.Clone(w.Plan)
			for _, f := range changes {
				if f != nil {
					f(&w)
				}
			}
			if w.Topics != base.Topics || w.Seed != base.Seed || w.Decode.Slots != base.Decode.Slots || w.Decode.Model.Layers != base.Decode.Model.Layers {
				w.setTopics(w.Seconds)
			}
			traffic := tinyRequests(w.rate, w.seed)
			traffic.input, traffic.output = w.input, w.out
			r, err := Run(w.Config, traffic)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			return &r
		}
		key := asked{c.load, c.of.decode}
		first, known := plain[key]
		if !known || c.first != nil {
			first = at(c.first)
		}
		if c.first == nil {
			plain[key] = first
		}
		before, after := c.of.of(first), c.of.of(at(c.first, c.then))
		if x := after / before; !(x >= c.low && x <= c.high) {
			t.Errorf("%s: %.5g, then %.5g: %.3f times, want %v to %v", c.name, before, after, x, c.low, c.high)
		} else {
			t.Logf("%s: %.3f", c.name, x)
		}
	}
}
