package eplb

import (
	"math"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// Where every expert gets a copy of its own, replicas of hot experts go to other
// nodes, whatever they are chosen with; where every node gets one, experts that are
// chosen together go to one.
func TestCopies(t *testing.T) {
	routes := topicRoutes(5, 2, 32, 4, 3000, 4)
	p := Problem{Loads: routes.Loads(32), Replicas: 48, Topology: placement.Topology{GPUs: 8, Nodes: 4}, Routes: routes}
	plan := func(p Problem, o Options) Result {
		t.Helper()
		r, err := Plan(t.Context(), p, o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	perNode, perExpert := plan(p, Options{}), plan(p, Options{Copies: PerExpert})
	bare := p
	bare.Routes = nil
	plain := plan(bare, Options{})
	for l := range p.Loads {
		for name, r := range map[string]struct {
			*Result
			copies Copies
		}{"node": {&perNode, PerNode}, "expert": {&perExpert, PerExpert}} {
			at, even := r.Traffic.Plan[l], r.Traffic.Even[l]
			if x := r.Layers[l].Imbalance; x > plain.Layers[l].Imbalance*1.02+1e-9 {
				t.Errorf("a copy a %s, layer %d: imbalance %v, %v without routes", name, l, x, plain.Layers[l].Imbalance)
			}
			if at.Sent[r.copies] >= even.Sent[r.copies] {
				t.Errorf("a copy a %s, layer %d: sends %v, %v without routes", name, l, at.Sent, even.Sent)
			}
			if at.Nodes != r.Layers[l].NodesPerToken || at.GPUs < at.Nodes || at.GPUs > 4 || even.GPUs < even.Nodes {
				t.Errorf("a copy a %s, layer %d: %v GPUs (%v without routes)", name, l, at.GPUs, even.GPUs)
			}
		}
		if a, b := perNode.Layers[l].NodesPerToken, perExpert.Layers[l].NodesPerToken; a >= b {
			t.Errorf("layer %d: %v nodes a token planned for them, %v for experts", l, a, b)
		}
		// The copies, by hand: of every GPU and every expert of a token.
		away := func(at *placement.Placement) float64 {
			n := 0
			for i := range routes.Tokens(l) {
				for _, e := range routes.Token(l, i) {
					for node := range 4 {
						if !slices.Contains(at.PhysicalToLogical[l][node*12:node*12+12], int(e)) {
							n++
						}
					}
				}
			}
			return float64(n) / 4 / float64(routes.Tokens(l))
		}
		if got, a := away(&perExpert.Placement), away(&perNode.Placement); got >= a {
			t.Errorf("layer %d: %v copies, %v planned for nodes", l, got, a)
		}
		// All but every eighth of 3,000 tokens are counted: nearly all.
		if got, want := perExpert.Traffic.Plan[l].Sent[PerExpert], away(&perExpert.Placement); math.Abs(got-want) > .03*want {
			t.Errorf("layer %d: says %v copies, counted %v", l, got, want)
		}
		held := placement.NewLoads(2, 32)
		for i := 7; i < routes.Tokens(l); i += 8 {
			for _, e := range routes.Token(l, i) {
				held[l][e]++
			}
		}
		for _, x := range []struct {
			at   *placement.Placement
			says float64
		}{{&perNode.Placement, perNode.Traffic.Plan[l].HeldOutImbalance}, {&plain.Placement, perNode.Traffic.Even[l].HeldOutImbalance}} {
			scores, err := x.at.ScoreLayers(held, p.Topology)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(x.says-scores[l].Imbalance) > 1e-9 {
				t.Errorf("layer %d: says imbalance %v of tokens held out, counted %v", l, x.says, scores[l].Imbalance)
			}
		}
	}
	// The matrices say the same as the mean of the layers.
	for _, r := range []*Result{&perNode, &perExpert} {
		mean := MeanVisited(r.Traffic.Plan)
		for c, between := range mean.Between {
			sum := 0.0
			for from, row := range between {
				for to, x := range row {
					if sum += x / 4; from == to && x != 0 {
						t.Errorf("node %d sends %v to itself", from, x)
					}
				}
			}
			if math.Abs(sum-mean.Sent[c]) > 1e-9 || r.Traffic.Previous != nil {
				t.Errorf("%v copies between nodes, %v leave theirs", sum, mean.Sent[c])
			}
		}
	}
	from := p
	from.Previous = &plain.Placement
	r := plan(from, Options{})
	for l := range r.Layers {
		was, even := r.Traffic.Previous[l], perNode.Traffic.Even[l]
		even.HeldOut, even.HeldOutImbalance = math.NaN(), math.NaN()
		sameVisited(t, &was, &even)
	}
	for _, bad := range []struct {
		p Problem
		o Options
	}{{bare, Options{Copies: PerExpert}}, {p, Options{Copies: 2}}, {p, Options{Copies: -1}}} {
		if _, err := Plan(t.Context(), bad.p, bad.o); err == nil {
			t.Errorf("copies %v are planned for", bad.o.Copies)
		}
	}
	p.Everywhere, p.Replicas = []int{3}, 56
	if r := plan(p, Options{Copies: PerExpert}); r.Traffic.Plan[0].Sent[PerExpert] >= r.Traffic.Even[0].Sent[PerExpert] {
		t.Errorf("with an expert everywhere: sends %v, %v without routes", r.Traffic.Plan[0].Sent, r.Traffic.Even[0].Sent)
	}
}
