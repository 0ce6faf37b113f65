package cost

import (
	"math"
	"testing"
)

func unit(gpu string, phase Phase, nodes int, f Factors) *Unit {
	g, err := FindGPU(gpu)
	if err != nil {
		panic(err)
	}
	return &Unit{Model: DeepSeekV3(), GPU: g, Factors: f, Phase: phase, Nodes: nodes}
}

func even(b Batch) Batch {
	for _, x := range []*float64{&b.Attention, &b.Senders, &b.Experts, &b.Queries} {
		if *x == 0 {
			*x = 1
		}
	}
	return b
}

// TestPublished compares estimates with published rates. What a factor was
// fitted to is said in the table of factors.
func TestPublished(t *testing.T) {
	for _, c := range []struct {
		name          string
		unit          *Unit
		batch         Batch
		want, within  float64
		request, near float64
	}{
		{"online decode", unit("h800", DecodePhase, 18, Calibrated()), Batch{Requests: 88, KV: 4989}, 14800, .10, 21, .12},
		{"LMSYS EP72", unit("h100", DecodePhase, 9, Calibrated()), Batch{Requests: 256, KV: 2050}, 22282, .10, 0, 0},
		{"LMSYS EP72, two tokens", unit("h100", DecodePhase, 9, Calibrated()), Batch{Requests: 128, KV: 4000, Queries: 2, Acceptance: .6}, 17373, .10, 0, 0},
		{"prefill profile, nothing fitted", unit("h800", PrefillPhase, 4, Tables()), Batch{Tokens: 16384, Prompt: 4096}, 62713, .10, 0, 0},
		{"prefill profile, fitted", unit("h800", PrefillPhase, 4, Calibrated()), Batch{Tokens: 16384, Prompt: 4096}, 62713, .005, 0, 0},
		{"LMSYS perfect balance", unit("h100", PrefillPhase, 4, Calibrated()), Batch{Tokens: 16384, Prompt: 4096}, 59337, .10, 0, 0},
		{"LMSYS EP72, nothing fitted", unit("h100", DecodePhase, 9, Tables()), Batch{Requests: 256, KV: 2050}, 22282, .23, 0, 0},
		{"online decode, nothing fitted", unit("h800", DecodePhase, 18, Tables()), Batch{Requests: 88, KV: 4989}, 14800, .18, 0, 0},
	} {
		e, err := c.unit.Estimate(even(c.batch))
		if err != nil {
			t.Fatal(err)
		}
		off := e.TokensPerNode/c.want - 1
		t.Logf("%-30s %7.0f tokens/s a node, published %5.0f: %+.1f%%; %.2f a request; step %.2f ms", c.name, e.TokensPerNode, c.want, 100*off, e.TokensPerRequest, 1e3*e.StepSeconds)
		if math.Abs(off) > c.within {
			t.Errorf("%s: %.0f tokens/s a node, want %.0f within %v", c.name, e.TokensPerNode, c.want, c.within)
		}
		if c.request > 0 && math.Abs(e.TokensPerRequest/c.request-1) > c.near {
			t.Errorf("%s: %.2f tokens/s a request, want %.0f within %v", c.name, e.TokensPerRequest, c.request, c.near)
		}
		if testing.Verbose() {
			for _, s := range e.Stages {
				t.Logf("    %-16s %8.1f us x %d", s.Name, 1e6*s.Seconds, s.Count)
			}
		}
	}
}

// TestSensitivity demands what imbalance costs, by sign and order.
func TestSensitivity(t *testing.T) {
	prefill := func(f Factors) *Unit { return unit("h800", PrefillPhase, 4, f) }
	decode := func(f Factors) *Unit { return unit("h800", DecodePhase, 18, f) }
	fours := Batch{Tokens: 16384, Prompt: 4096}
	for _, c := range []struct {
		name       string
		unit       *Unit
		batch      Batch
		kv, tok, x [2]float64 // percent at 1.1 and 1.3
	}{
		{"prefill 4K", prefill(Tables()), fours, [2]float64{.8, 3.6}, [2]float64{6.5, 17.3}, [2]float64{2.7, 8.2}},
		{"prefill 4K, 56.3%", prefill(Tables()), Batch{Tokens: 16384, Prompt: 4096, Hit: .563}, [2]float64{2.2, 6.2}, [2]float64{5.5, 14.9}, [2]float64{2.2, 6.3}},
		{"prefill 32K, 56%", prefill(Tables()), Batch{Tokens: 16384, Prompt: 32768, Hit: .56}, [2]float64{6.5, 17.2}, [2]float64{2.2, 6.4}, [2]float64{.9, 2.5}},
		{"decode 88", decode(Calibrated()), Batch{Requests: 88, KV: 4989}, [2]float64{2.4, 6.9}, [2]float64{1.5, 4.4}, [2]float64{1.8, 5.4}},
		{"decode 88 MTP", decode(Calibrated()), Batch{Requests: 88, KV: 4989, Queries: 2}, [2]float64{3.3, 9.3}, [2]float64{2.1, 10.2}, [2]float64{2.7, 12.2}},
		{"decode 256x2050", decode(Calibrated()), Batch{Requests: 256, KV: 2050}, [2]float64{.1, .2}, [2]float64{6.3, 16.8}, [2]float64{7.2, 18.9}},
		{"decode 32x16K", decode(Calibrated()), Batch{Requests: 32, KV: 16384}, [2]float64{2.9, 8.3}, [2]float64{.1, .2}, [2]float64{0, 0}},
	} {
		base, err := c.unit.Estimate(even(c.batch))
		if err != nil {
			t.Fatal(err)
		}
		cost := func(set func(*Batch, float64), f float64) float64 {
			b := even(c.batch)
			set(&b, f)
			e, err := c.unit.Estimate(b)
			if err != nil {
				t.Fatal(err)
			}
			return 100 * (1 - e.TokensPerNode/base.TokensPerNode)
		}
		for _, k := range []struct {
			what string
			set  func(*Batch, float64)
			want [2]float64
		}{
			{"attention", func(b *Batch, f float64) { b.Attention = f }, c.kv},
			{"tokens", func(b *Batch, f float64) { b.Senders = f }, c.tok},
			{"experts", func(b *Batch, f float64) { b.Experts = f }, c.x},
		} {
			a, b := cost(k.set, 1.1), cost(k.set, 1.3)
			t.Logf("%-18s %-10s -%.1f%% (-%.1f%%), expected -%.1f (-%.1f)", c.name, k.what, a, b, k.want[0], k.want[1])
			if math.Abs(a-k.want[0]) > 1+.3*k.want[0] || math.Abs(b-k.want[1]) > 1.5+.3*k.want[1] {
				t.Errorf("%s, %s: -%.1f%% at 1.1 and -%.1f%% at 1.3", c.name, k.what, a, b)
			}
		}
	}
}

// TestNodesPerToken: what a token's copies cost follows the nodes they go to.
func TestNodesPerToken(t *testing.T) {
	seconds := func(gpu string, visits float64) float64 {
		u := unit(gpu, PrefillPhase, 4, Calibrated())
		u.NodesPerToken = visits
		e, err := u.Estimate(even(Batch{Tokens: 16384, Prompt: 4096}))
		if err != nil {
			t.Fatal(err)
		}
		return e.Prefill.Dispatch
	}
	usual := seconds("h800", 0)
	m := DeepSeekV3()
	if x := seconds("h800", m.remoteNodes(4)*4/3); math.Abs(x/usual-1) > 1e-9 {
		t.Errorf("as many nodes as by default: %v times the time", x/usual)
	}
	if x := seconds("h800", m.remoteNodes(4)*4/3*.75); math.Abs(x/usual-.75) > 1e-9 {
		t.Errorf("three quarters of the nodes: %v times the time", x/usual)
	}
	for _, c := range []struct {
		gpu    string
		phase  Phase
		visits float64
	}{{"h800", DecodePhase, 2}, {"h800", PrefillPhase, .5}, {"h800", PrefillPhase, 4.1}, {"h800", PrefillPhase, math.NaN()}, {"gb200", PrefillPhase, 8.1}} {
		u := unit(c.gpu, c.phase, 4, Calibrated())
		u.NodesPerToken = c.visits
		if u.Validate() == nil {
			t.Errorf("%s %v: %v nodes a token accepted", c.gpu, c.phase, c.visits)
		}
	}
}

// TestGPUsPerToken: within one NVLink domain a token's copies go to GPUs, and fewer
// nodes are fewer of them.
func TestGPUsPerToken(t *testing.T) {
	seconds := func(nodes, gpus float64) float64 {
		u := unit("gb200", PrefillPhase, 8, Calibrated())
		u.NodesPerToken, u.GPUsPerToken = nodes, gpus
		e, err := u.Estimate(even(Batch{Tokens: 16384, Prompt: 4096}))
		if err != nil {
			t.Fatal(err)
		}
		return e.Prefill.Dispatch
	}
	usual := seconds(0, 0)
	if x := seconds(8, 0); x != usual {
		t.Errorf("experts on all nodes: %v times the time of experts anywhere", x/usual)
	}
	m := DeepSeekV3()
	if x := seconds(0, m.gpusPerToken(32, 32)/2); math.Abs(x/usual-.5) > 1e-9 {
		t.Errorf("half the GPUs: %v times the time", x/usual)
	}
	if x := seconds(3, 5); math.Abs(x/seconds(0, 5)-1) > 1e-9 {
		t.Error("GPUs are given, and nodes count")
	}
	last := 0.0
	for _, nodes := range []float64{1, 1.5, 2, 4, 8} {
		x := seconds(nodes, 0)
		if x <= last || x > usual {
			t.Errorf("%v nodes a token take %v, fewer %v, all %v", nodes, x, last, usual)
		}
		last = x
	}
	// 8 of 256 experts, 32 of them on each of 8 GPUs: 8(1 - C(224,8)/C(256,8)).
	if x := m.gpusPerToken(32, 8); math.Abs(x-8*(1-noneOf(64, 8, 8))) > 1e-9 || x < 4 || x > 8 {
		t.Errorf("on 8 of 32 GPUs: %v", x)
	}
	for _, c := range []Unit{{NodesPerToken: 3, GPUsPerToken: 2}, {GPUsPerToken: 9}, {GPUsPerToken: .5}, {GPUsPerToken: math.NaN()}, {CopiesOffNode: 2}} {
		u := unit("gb200", PrefillPhase, 8, Calibrated())
		u.NodesPerToken, u.GPUsPerToken, u.CopiesOffNode = c.NodesPerToken, c.GPUsPerToken, c.CopiesOffNode
		if u.Validate() == nil {
			t.Errorf("%v nodes, %v GPUs, %v copies accepted", c.NodesPerToken, c.GPUsPerToken, c.CopiesOffNode)
		}
	}
	if u := unit("h800", PrefillPhase, 4, Calibrated()); u.Validate() != nil {
		t.Error("refused")
	} else if u.GPUsPerToken = 4; u.Validate() == nil {
		t.Error("GPUs a token accepted over RDMA")
	}
}

// TestCopiesOffNode: decode's copies take RDMA as far as they leave their node.
func TestCopiesOffNode(t *testing.T) {
	dispatch := func(gpu string, copies float64) float64 {
		u := unit(gpu, DecodePhase, 18, Calibrated())
		u.CopiesOffNode = copies
		e, err := u.Estimate(even(Batch{Requests: 88, KV: 4989}))
		if err != nil {
			t.Fatal(err)
		}
		return e.Decode.Dispatch
	}
	usual := 8 * 136 / 144. // of 8 experts anywhere on 18 nodes
	if x := dispatch("h800", usual) / dispatch("h800", 0); math.Abs(x-1) > 1e-9 {
		t.Errorf("as many copies as by default: %v times the time", x)
	}
	f := Calibrated()
	if start := dispatch("h800", 7) - 7*(dispatch("h800", 8)-dispatch("h800", 7)); math.Abs(start/(f.DecodeComm*f.LowStartD)-1) > 1e-6 {
		t.Errorf("without copies over RDMA: %v s", start)
	}
	if near := dispatch("h800", 1e-9); near >= dispatch("h800", 4) || near <= 1.01*f.DecodeComm*f.LowStartD {
		t.Errorf("all copies over NVLink: %v s", near)
	}
	if dispatch("gb200", 2) != dispatch("gb200", 0) {
		t.Error("copies within one NVLink domain are told apart")
	}
	u := unit("h800", DecodePhase, 18, Calibrated())
	for _, x := range []float64{-1, 8.1, math.NaN()} {
		if u.CopiesOffNode = x; u.Validate() == nil {
			t.Errorf("%v copies accepted", x)
		}
	}
}

// TestUSD: a GPU's price over its tokens.
func TestUSD(t *testing.T) {
	u := unit("h800", DecodePhase, 18, Calibrated())
	u.GPU.USDHour = 3
	e, err := u.Estimate(even(Batch{Requests: 88, KV: 4989}))
	if err != nil {
		t.Fatal(err)
	}
	if x := e.USDPerMillion * e.TokensPerNode / 1e6 * 3600 / 8; math.Abs(x-3) > 1e-9 {
		t.Errorf("$%v a GPU and hour", x)
	}
}
