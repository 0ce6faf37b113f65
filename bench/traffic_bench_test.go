package bench

import (
	"fmt"
	"math/bits"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/track"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// routed is tokens and a unit to plan for.
type routed struct {
	name     string
	routes   *placement.Routes
	experts  int
	replicas int
	topology placement.Topology
}

func routedUnits(tb testing.TB) []routed {
	lite := placement.Topology{GPUs: 8, Nodes: 4}
	out := []routed{
		{"lite", workload.Routes(placement.DeepSeekV2Lite(), 4096, 1), 64, 72, lite},
		{"v3", workload.Routes(placement.DeepSeekV3(), 8192, 1), 256, 288, placement.PrefillUnit()},
	}
	if dir, err := workload.DataDir(); err == nil {
		r, err := workload.ESFTRoutes(dir)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, routed{"esft", r, 64, 72, lite})
	}
	return out
}

// halves are the first and the second half of the tokens of some layers.
func (u routed) halves(layers int) (first, second *placement.Routes) {
	first, second = &placement.Routes{TopK: u.routes.TopK}, &placement.Routes{TopK: u.routes.TopK}
	for l, ids := range u.routes.IDs[:min(layers, len(u.routes.IDs))] {
		half := u.routes.Tokens(l) / 2 * u.routes.TopK
		first.IDs, second.IDs = append(first.IDs, ids[:half]), append(second.IDs, ids[half:])
	}
	return first, second
}

// BenchmarkTraffic plans on the first half of tokens whose experts are known. Beside
// the time a layer it reports, of the second half, the nodes that a token visits and
// how many times those under the plan without routes that is, and the max/mean of
// the GPUs' loads under both.
func BenchmarkTraffic(b *testing.B) {
	for _, u := range routedUnits(b) {
		b.Run(fmt.Sprintf("routes=%s/experts=%d/gpus=%d/nodes=%d", u.name, u.experts, u.topology.GPUs, u.topology.Nodes), func(b *testing.B) {
			b.ReportAllocs()
			first, second := u.halves(26)
			p := eplb.Problem{Loads: first.Loads(u.experts), Replicas: u.replicas, Topology: u.topology, Routes: first}
			var r eplb.Result
			layers := 0
			for b.Loop() {
				var err error
				if r, err = eplb.Plan(b.Context(), p, eplb.Options{Workers: 1}); err != nil {
					b.Fatal(err)
				}
				layers += len(r.Layers)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(layers), "ms/layer")
			with, at := later(b, p, second, &r.Placement)
			p.Routes = nil
			plain, err := eplb.Plan(b.Context(), p, eplb.Options{})
			if err != nil {
				b.Fatal(err)
			}
			without, even := later(b, p, second, &plain.Placement)
			b.ReportMetric(with, "nodes/token")
			b.ReportMetric(with/without, "x-without-routes")
			b.ReportMetric(at, "later-max/mean")
			b.ReportMetric(even, "later-max/mean-without")
		})
	}
}

// later is the mean over layers of the nodes a token visits and of the imbalance,
// of later tokens under a plan.
func later(tb testing.TB, p eplb.Problem, tokens *placement.Routes, at *placement.Placement) (nodes, imbalance float64) {
	p.Loads, p.Routes, p.Previous = tokens.Loads(p.Loads.Experts()), tokens, at
	r, err := eplb.Plan(tb.Context(), p, eplb.Options{MaxMoves: -1})
	if err != nil {
		tb.Fatal(err)
	}
	for _, y := range r.Layers {
		nodes += y.NodesPerToken / float64(len(r.Layers))
		imbalance += y.Imbalance / float64(len(r.Layers))
	}
	return nodes, imbalance
}

// BenchmarkNearest plans for dispatch to the nearest replica; plain is what a plan
// for an even one is worth under it.
func BenchmarkNearest(b *testing.B) {
	for _, skew := range []float64{.5, .9} {
		b.Run(fmt.Sprintf("loads=zipf%.1f/gpus=32", skew), func(b *testing.B) {
			b.ReportAllocs()
			p := eplb.Problem{Loads: workload.Zipf(16, 256, skew, 1e6, 1), Replicas: 288, Topology: placement.PrefillUnit()}
			var r eplb.Result
			layers := 0
			for b.Loop() {
				var err error
				if r, err = eplb.Plan(b.Context(), p, eplb.Options{Workers: 1, Dispatch: eplb.Nearest}); err != nil {
					b.Fatal(err)
				}
				layers += len(r.Layers)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(layers), "ms/layer")
			made := 0.0
			for _, y := range r.Layers {
				made += y.Imbalance / float64(len(r.Layers))
			}
			b.ReportMetric(made, "max/mean")
			plain, err := eplb.Plan(b.Context(), p, eplb.Options{})
			if err != nil {
				b.Fatal(err)
			}
			scores, err := plain.Placement.ScoreNearest(p.Loads, p.Topology)
			if err != nil {
				b.Fatal(err)
			}
			worth := 0.0
			for _, s := range scores {
				worth += s.Imbalance / float64(len(scores))
			}
			b.ReportMetric(worth, "plain-max/mean")
		})
	}
}

// TestTraffic: planned on the first half of the tokens, those of the second visit
// at most .80 times the nodes they do without routes, generated or measured, with
// an imbalance at most 1.02 planned and no more than .02 above later. Loads of few
// layers scatter.
func TestTraffic(t *testing.T) {
	for _, u := range routedUnits(t) {
		layers, rise := 4, .03
		if long.Tests() {
			layers, rise = 26, .02
		}
		first, second := u.halves(layers)
		p := eplb.Problem{Loads: first.Loads(u.experts), Replicas: u.replicas, Topology: u.topology, Routes: first}
		r, err := eplb.Plan(t.Context(), p, eplb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		with, at := later(t, p, second, &r.Placement)
		p.Routes = nil
		plain, err := eplb.Plan(t.Context(), p, eplb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		without, even := later(t, p, second, &plain.Placement)
		most := 0.0
		for _, y := range r.Layers {
			most = max(most, y.Imbalance)
		}
		t.Logf("%s: %.3f nodes a token, %.3f without routes (%.3f times); imbalance %.4f at most, later %.4f, %.4f without routes", u.name, with, without, with/without, most, at, even)
		if with > .80*without || most > 1.021 || at > even+rise {
			t.Errorf("%s: short of it", u.name)
		}
	}
}

// TestGroupLimited: tokens that choose 4 of 8 groups visit fewer nodes where the groups
// they choose together are on one, as far as the balance allows, and no placement of
// groups is below the bound.
func TestGroupLimited(t *testing.T) {
	m := placement.DeepSeekV3()
	m.Layers = 9 // one may find no plan within the slack, by luck
	u := routed{"limited", workload.LimitedRoutes(m, 4, 8192, 1), m.Experts, 288, placement.PrefillUnit()}
	first, second := u.halves(m.Layers)
	for l := range second.IDs {
		for i := range second.Tokens(l) {
			groups := 0
			for _, e := range second.Token(l, i) {
				groups |= 1 << (int(e) * m.Groups / m.Experts)
			}
			if bits.OnesCount(uint(groups)) > 4 {
				t.Fatalf("a token chooses groups %b", groups)
			}
		}
	}
	for _, c := range []struct {
		where   eplb.Locality
		off     int
		slack   float64
		least   float64 // of the nodes without routes
		atBound bool
	}{{eplb.ByGroup, 0, 0, .998, false}, {eplb.ByGroup, 0, 10, .97, true}, {eplb.ByGroup, 16, 0, .95, false}, {eplb.Free, 0, 0, .75, false}} {
		p := eplb.Problem{Loads: first.Loads(u.experts), Replicas: u.replicas, Groups: m.Groups, Topology: u.topology, Routes: first}
		r, err := eplb.Plan(t.Context(), p, eplb.Options{Locality: c.where, OffNodeReplicas: c.off, TrafficSlack: c.slack})
		if err != nil {
			t.Fatal(err)
		}
		nodes, even, bound, rise := 0.0, 0.0, 0.0, 0.0
		for l, y := range r.Layers {
			nodes, even, bound = nodes+y.NodesPerToken/float64(m.Layers), even+r.Traffic.Even[l].Nodes/float64(m.Layers), bound+r.Traffic.LowerBound[l]/float64(m.Layers)
			rise = max(rise, y.Imbalance/r.Traffic.EvenImbalance[l]-1)
			if y.NodesPerToken < r.Traffic.LowerBound[l]-1e-9 || c.atBound && y.NodesPerToken > r.Traffic.LowerBound[l]+1e-9 {
				t.Errorf("layer %d: %v nodes a token, bound %v", l, y.NodesPerToken, r.Traffic.LowerBound[l])
			}
		}
		seen, err := eplb.ScoreRoutes(&r.Placement, second, u.topology)
		if err != nil {
			t.Fatal(err)
		}
		later := eplb.MeanVisited(seen).Nodes
		t.Logf("locality %v, %d off their node, slack %v: %.3f nodes a token, later %.3f, %.3f without routes, bound %.3f; imbalance %.2f%% above", c.where, c.off, c.slack, nodes, later, even, bound, 100*rise)
		if nodes > c.least*even || later > 1.03*nodes || rise > max(c.slack, .02)+1e-9 {
			t.Errorf("short of it")
		}
	}
}

// TestPairs: planned by how many tokens chose two experts together, tokens visit
// nearly as few nodes as planned by the tokens themselves.
func TestPairs(t *testing.T) {
	const layers = 5 // of fewer, later loads are more a matter of chance
	for _, u := range routedUnits(t) {
		first, second := u.halves(layers)
		count, err := track.NewPairs(layers, u.experts)
		if err != nil {
			t.Fatal(err)
		}
		for l := range first.IDs {
			for i := range first.Tokens(l) {
				if err := count.Add(l, first.Token(l, i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		p := eplb.Problem{Loads: first.Loads(u.experts), Replicas: u.replicas, Topology: u.topology, Routes: count.Routes()}
		r, err := eplb.Plan(t.Context(), p, eplb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		with, at := later(t, p, second, &r.Placement)
		p.Routes = nil
		plain, err := eplb.Plan(t.Context(), p, eplb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		without, even := later(t, p, second, &plain.Placement)
		t.Logf("%s: by pairs %.3f nodes a token, %.3f without (%.3f times); later imbalance %.4f, %.4f without", u.name, with, without, with/without, at, even)
		if with > .83*without || r.Layers[0].Imbalance > 1.02 || at > even+.05 {
			t.Errorf("%s: short of it", u.name)
		}
	}
}
