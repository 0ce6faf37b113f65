package simulate

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
)

func ours() Policy {
	return Policy{PrefillPolicies()[0], DecodePolicies()[0], experts.Optimal}
}

func none() Policy {
	p, d := PrefillPolicies(), DecodePolicies()
	return Policy{p[len(p)-1], d[len(d)-1], experts.Alone}
}

func small(p Policy, seconds float64) Config {
	c := Default(p)
	c.Seconds, c.Warm = seconds, seconds/2
	return c
}

// alike compares results but for the functions in their policies.
var alike = cmp.Comparer(func(a, b Policy) bool { return a.String() == b.String() })

// TestBalanced demands that balancing pays in each way it should.
func TestBalanced(t *testing.T) {
	run := func(p Policy) Result {
		r, err := Run(tiny(p), tinyRequests(.9*full, 1))
		if long.Tests() {
			r, err = Run(small(p, 60), workload.Steady(150, 1))
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	on, off := run(ours()), run(none())
	for _, x := range []struct {
		name    string
		on, off float64
	}{
		{"TTFT", on.TTFT50, off.TTFT50}, {"TPOT", on.TPOT50, off.TPOT50}, {"idle", on.Idle, off.Idle}, {"pairs", on.PairsImbalance, off.PairsImbalance},
		{"KV", on.KVImbalance, off.KVImbalance}, {"experts of prefill", on.PrefillExperts, off.PrefillExperts}, {"experts of decode", on.DecodeExperts, off.DecodeExperts},
	} {
		if !(x.on > 0 && x.on < x.off) {
			t.Errorf("%s: %v balanced, %v not", x.name, x.on, x.off)
		}
	}
	if on.TokensPerSecond <= off.TokensPerSecond {
		t.Errorf("%v tokens/s balanced, %v not", on.TokensPerSecond, off.TokensPerSecond)
	}
}

func TestSameAgain(t *testing.T) {
	c := planned(tiny(ours()))
	a, err := Run(c, tinyRequests(.9*full, 1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Run(c, tinyRequests(.9*full, 1))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a, b, alike); d != "" {
		t.Error(d)
	}
}

// TestConservation breaks each rule on purpose; without a fault all are kept.
func TestConservation(t *testing.T) {
	for f := fault(0); f <= leakKV; f++ {
		s, err := newSim(brief(none(), 2), tinyRequests(1500, 1))
		if err != nil {
			t.Fatal(err)
		}
		s.fault = f
		_, err = s.run()
		var lost *ConservationError
		if f == 0 {
			if err != nil {
				t.Error(err)
			}
		} else if !errors.As(err, &lost) {
			t.Errorf("fault %d was not found: %v", f, err)
		} else {
			t.Logf("fault %d: %v", f, err)
		}
	}
}

// TestPlan has units join and leave while requests run, and few ranks' worth of
// KV, so that requests are evicted: nothing may be lost, and what leaves must
// have drained.
func TestPlan(t *testing.T) {
	long.Only(t)
	c := small(none(), 90) // our own ledger keeps room: nothing would be evicted
	c.Plan = []PlanStep{{0, Fleet{2, 2}}, {20, Fleet{3, 1}}, {40, Fleet{1, 2}}, {60, Fleet{2, 1}}}
	c.Decode.Nodes, c.Decode.Slots = 4, 9
	c.Decode.GPU.Memory = 52e9
	var requests []workload.Request
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 4000 {
		requests = append(requests, workload.Request{Arrival: float64(i) / 44, Input: 1 + rng.IntN(2000), Output: 1 + rng.IntN(2500)})
	}
	r, err := Run(c, workload.NewReplay(requests, workload.Rate(requests)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Evictions == 0 {
		t.Error("no request was evicted: the test does not test it")
	}
	if all := r.End * (3*4 + 2*4); r.NodeSeconds >= all || r.NodeSeconds < r.End*(1*4+1*4) {
		t.Errorf("%.0f node-seconds in %.0f s", r.NodeSeconds, r.End)
	}
	t.Logf("%d requests, %d evictions, %.0f node-seconds, end at %.0f s", r.Requests, r.Evictions, r.NodeSeconds, r.End)
}

// TestBadInput demands an error, and no panic.
func TestBadInput(t *testing.T) {
	for i, change := range []func(*Config){
		func(c *Config) { c.Plan = nil }, func(c *Config) { c.Plan[0].Fleet.Decode = 0 }, func(c *Config) { c.Seconds = 0 }, func(c *Config) { c.Seconds = math.NaN() },
		func(c *Config) { c.Warm = c.Seconds }, func(c *Config) { c.Hit = 1 }, func(c *Config) { c.MaxTokens = 0 }, func(c *Config) { c.MaxRequests = 1 << 20 },
		func(c *Config) { c.Decode.Nodes = 0 }, func(c *Config) { c.Decode.GPU.Memory = 1 }, func(c *Config) { c.Policy = Policy{} }, func(c *Config) { c.Concurrency = -1 },
		func(c *Config) { c.Plan = append(c.Plan, PlanStep{0, Fleet{1, 1}}) }, func(c *Config) { c.StoreTokens = 0 }, func(c *Config) { c.BlockTokens = 0 }, func(c *Config) { c.PrefillOnly, c.DecodeOnly = true, true },
	} {
		c := planned(brief(ours(), 10))
		change(&c)
		if _, err := Run(c, workload.Steady(1, 1)); err == nil {
			t.Errorf("change %d was accepted", i)
		}
	}
	for _, q := range []workload.Request{{Input: 0, Output: 1}, {Input: 1, Output: 0}} {
		if _, err := Run(planned(brief(ours(), 10)), workload.NewReplay([]workload.Request{q}, 1)); err == nil {
			t.Errorf("%+v was accepted", q)
		}
	}
}

// TestHistogram demands quantiles within 2%.
func TestHistogram(t *testing.T) {
	var h histogram
	r := rand.New(rand.NewPCG(1, 1))
	var all []int64
	for range 20_000 {
		x := int64(math.Exp(30 * r.Float64()))
		h.add(x)
		all = append(all, x)
	}
	slices.Sort(all)
	for _, q := range []float64{.01, .5, .99} {
		if got, want := h.quantile(q), float64(all[int(q*float64(len(all)))])*1e-9; math.Abs(got/want-1) > .02 && want > 1e-7 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

// TestDecodeClock compares an exact step with the closed form of package cost on
// the same stages.
func TestDecodeClock(t *testing.T) {
	c := Default(ours())
	e, err := experts.New(&c.Decode, experts.Optimal, experts.TopicLoads(&c.Decode, experts.UsualTopics, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	k := newDecodeClock(&c.Decode, e, c.MaxRequests, 1, 1)
	ranks := c.Decode.Ranks()
	kv, n, total := make([]int64, ranks), make([]int64, ranks), int64(0)
	r := rand.New(rand.NewPCG(1, 1))
	for g := range n {
		n[g] = int64(60 + r.IntN(40))
		kv[g] = n[g] * int64(3000+r.IntN(3000))
		total += n[g]
	}
	// exact is the step whose experts the clock has drawn.
	exact := func() float64 {
		want, dense, most := 0.0, 0.0, int64(0)
		s := cost.Decode{}
		for g := range n {
			x, tokens := cost.DecodeRank{Requests: float64(n[g]) / 2, KV: float64(kv[g]) / 2, Queries: 1}, float64(n[g])/2
			s.Before = append(s.Before, k.kernels.DecodeBefore(tokens))
			s.After = append(s.After, k.kernels.DecodeCore(x)+k.kernels.DecodeProjection(tokens))
			dense, most = max(dense, k.kernels.DecodeCore(x)+k.kernels.DecodeDense(tokens)), max(most, n[g])
		}
		for l := range k.top {
			s.Experts = k.m[l*ranks : (l+1)*ranks]
			s.Dispatch, s.Combine = k.kernels.DecodeNetwork(max(float64(most)*4, k.received[l]), ranks)
			want += 2 * s.HalfLayer()
		}
		return want + 6*dense + k.kernels.Head(float64(most)) + c.Decode.Factors.Host
	}
	got, _ := k.seconds(kv, n, total)
	if want := exact(); math.Abs(got/want-1) > 1e-9 {
		t.Errorf("a step takes %v s, the closed form says %v", got, want)
	}
	// Steps that look at some layers must stay near those that look at all.
	for step := range 100 {
		for g := range kv {
			kv[g] += n[g]
			if step%10 == 9 { // the busiest in requests leads in what comes before the core
				n[g]++
				kv[g] += 2000
				total++
			}
		}
		got, _ := k.seconds(kv, n, total)
		if want := exact(); math.Abs(got/want-1) > 2e-4 {
			t.Errorf("step %d takes %v s, exactly %v", step, got, want)
		}
	}
	// Where many more requests run than the experts were drawn for, or many fewer, all
	// are drawn anew: the step is exact.
	for _, by := range []int64{-2, 3} {
		total = 0
		for g := range n {
			n[g] += by * n[g] / 8
			total += n[g]
		}
		got, _ := k.seconds(kv, n, total)
		if want := exact(); math.Abs(got/want-1) > 1e-9 || k.total != total {
			t.Errorf("with %d eighths more requests a step takes %v s, exactly %v", by, got, want)
		}
	}
}
