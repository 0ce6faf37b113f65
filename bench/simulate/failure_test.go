package simulate

import (
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
)

// chaos draws failures of ranks, nodes and units in so many seconds.
func chaos(n int, seconds float64, f Fleet, prefillRanks, decodeRanks int, seed uint64) []Failure {
	r := rand.New(rand.NewPCG(seed, 9))
	out := make([]Failure, n)
	for i := range out {
		x := Failure{Second: r.Float64() * seconds, Decode: r.IntN(2) == 0}
		x.Until = x.Second + 1 + r.Float64()*seconds/4
		ranks, units := prefillRanks, f.Prefill
		if x.Decode {
			ranks, units = decodeRanks, f.Decode
		}
		x.Unit = r.IntN(units)
		switch r.IntN(3) {
		case 0:
			x.Rank, x.Ranks = r.IntN(ranks), 1
		case 1:
			x.Rank, x.Ranks = r.IntN(ranks/8)*8, 8
		}
		out[i] = x
	}
	return out
}

// TestChaos: whatever dies and returns, every request is served once and no token or
// KV is lost or made up, under our balancers and under others.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates for seconds, on one goroutine")
	}
	seconds, n, seeds := 30.0, 8, uint64(1)
	if long.Tests() {
		seconds, n, seeds = 60, 16, 1
	}
	for seed := range seeds {
		for _, p := range []Policy{ours(), none()} {
			c := small(p, seconds)
			c.Seed = seed
			c.Plan = []PlanStep{{0, Fleet{2, 2}}}
			c.Decode.Nodes, c.Decode.Slots = 4, 10
			c.Failures = chaos(n, seconds, c.Plan[0].Fleet, c.Prefill.Groups(), c.Decode.Ranks(), seed)
			r, err := Run(c, workload.Steady(30, seed))
			if err != nil {
				t.Errorf("seed %d, %v: %v", seed, p, err)
				continue
			}
			t.Logf("seed %d, %v: %d ranks died, %d requests went back, %d served by second %.0f", seed, p, r.Failures, r.Returned, r.Requests, r.End)
			if r.Failures == 0 || r.Returned == 0 {
				t.Errorf("seed %d, %v: %d ranks died and %d requests went back: the test does not test it", seed, p, r.Failures, r.Returned)
			}
		}
	}
}

// TestFailureCosts: a node that is away makes tokens slower while it is, and its
// copies take time; nothing of a failure that is over before the run is left.
func TestFailureCosts(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates for seconds, on one goroutine")
	}
	run := func(f ...Failure) Result {
		c := small(ours(), 20)
		c.DecodeOnly, c.Failures = true, f
		c.Past, c.PastTPOT = 200, .04
		r, err := Run(c, workload.Steady(130, 1))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	whole, node := run(), run(Failure{Second: 5, Until: 1000, Decode: true, Rank: 8, Ranks: 8})
	if node.Failures != 8 || node.Returned == 0 || whole.Returned != 0 {
		t.Errorf("%d ranks died, %d requests went back; %d without", node.Failures, node.Returned, whole.Returned)
	}
	if node.TPOT50 <= whole.TPOT50 || node.KVImbalance <= 1 {
		t.Errorf("a token takes %v s without a node, %v with it", node.TPOT50, whole.TPOT50)
	}
	for _, f := range []Failure{{Second: -1, Until: 2}, {Second: 3, Until: 2}, {Second: 1, Until: 2, Rank: -1}, {Second: 1, Until: 2, Rank: 140, Ranks: 8, Decode: true}} {
		c := small(ours(), 10)
		c.Failures = []Failure{f}
		if _, err := Run(c, workload.Steady(10, 1)); err == nil {
			t.Errorf("%+v accepted", f)
		}
	}
}
