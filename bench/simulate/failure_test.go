package simulate

import (
	"math/rand/v2"
	"slices"
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
		x.Until = x.Second + (.02+r.Float64()/4)*seconds
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

// TestChaos: whatever dies and returns in a day on which units join and leave, every
// request is served once and no token or KV is lost or made up, under our balancers
// and under others. The day is a few seconds of a small system, or minutes of one of
// the published units.
func TestChaos(t *testing.T) {
	demand := PublishedDemand()
	n, seeds := 16, uint64(1)
	if long.Tests() {
		n, seeds = 40, 4
	}
	for seed := range seeds {
		for _, p := range []Policy{ours(), none()} {
			c, peak := brief(p, 4.8), 2*full*.8
			n := n
			if long.Tests() && seed == 0 {
				n = 16
				c, peak = small(p, 60), 120
			}
			c.Seed = seed
			f := Fleet{2, 2}
			c.Plan = planFor(f, demand[:], c.Seconds)
			c.Failures = chaos(n, c.Seconds, f, c.Prefill.Groups(), c.Decode.Ranks(), seed)
			traffic := tinyRequests(peak, seed)
			top := slices.Max(demand[:])
			traffic.PerSecond = func(s float64) float64 {
				return peak * demand[int(s/c.Seconds*float64(len(demand)))%len(demand)] / top
			}
			r, err := Run(c, traffic)
			if err != nil {
				t.Errorf("seed %d, %v: %v", seed, p, err)
				continue
			}
			t.Logf("seed %d, %v: %d ranks died, %d requests went back, %d served by second %.1f", seed, p, r.Failures, r.Returned, r.Requests, r.End)
			if r.Failures == 0 || r.Returned == 0 {
				t.Errorf("seed %d, %v: %d ranks died and %d requests went back: the test does not test it", seed, p, r.Failures, r.Returned)
			}
		}
	}
}

// TestFailureCosts: a node that is away makes tokens slower while it is, and its
// copies take time; nothing of a failure that is over before the run is left.
func TestFailureCosts(t *testing.T) {
	base := planned(tiny(ours()))
	base.DecodeOnly = true
	run := func(f ...Failure) Result {
		c := base
		c.Failures = f
		r, err := Run(c, tinyRequests(.7*full, 1))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	whole, node := run(), run(Failure{Second: .4, Until: 1000, Decode: true, Rank: 12, Ranks: 3})
	if node.Failures != 3 || node.Returned == 0 || whole.Returned != 0 {
		t.Errorf("%d ranks died, %d requests went back; %d without", node.Failures, node.Returned, whole.Returned)
	}
	if node.TPOT50 <= whole.TPOT50 || node.KVImbalance <= 1 {
		t.Errorf("a token takes %v s without three GPUs, %v with them", node.TPOT50, whole.TPOT50)
	}
	for _, f := range []Failure{{Second: -1, Until: 2}, {Second: 3, Until: 2}, {Second: 1, Until: 2, Rank: -1}, {Second: 1, Until: 2, Rank: 14, Ranks: 8, Decode: true}, {Second: 1, Until: 2, Unit: 1}} {
		c := planned(brief(ours(), 10))
		c.Failures = []Failure{f}
		if _, err := Run(c, workload.Steady(10, 1)); err == nil {
			t.Errorf("%+v accepted", f)
		}
	}
}
