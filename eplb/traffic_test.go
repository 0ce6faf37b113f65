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
		for name, r := range map[string]*Result{"node": &perNode, "expert": &perExpert} {
			at := r.Traffic
			if x := r.Layers[l].Imbalance; x > plain.Layers[l].Imbalance*1.02+1e-9 {
				t.Errorf("a copy a %s, layer %d: imbalance %v, %v without routes", name, l, x, plain.Layers[l].Imbalance)
			}
			if at.Sent[l] >= at.EvenSent[l] {
				t.Errorf("a copy a %s, layer %d: sends %v, %v without routes", name, l, at.Sent[l], at.EvenSent[l])
			}
			if at.GPUs[l] < r.Layers[l].NodesPerToken || at.GPUs[l] > 4 || at.EvenGPUs[l] < at.Even[l] {
				t.Errorf("a copy a %s, layer %d: %v GPUs (%v without routes)", name, l, at.GPUs[l], at.EvenGPUs[l])
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
		if got, want := perExpert.Traffic.Sent[l], away(&perExpert.Placement); math.Abs(got-want) > .03*want {
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
		}{{&perNode.Placement, perNode.Traffic.HeldOutImbalance[l]}, {&plain.Placement, perNode.Traffic.HeldOutEvenImbalance[l]}} {
			scores, err := x.at.ScoreLayers(held, p.Topology)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(x.says-scores[l].Imbalance) > 1e-9 {
				t.Errorf("layer %d: says imbalance %v of tokens held out, counted %v", l, x.says, scores[l].Imbalance)
			}
		}
	}
	// The matrix says the same as the mean of the layers.
	for _, r := range []*Result{&perNode, &perExpert} {
		sum, want := 0.0, 0.0
		for from, row := range r.Traffic.Between {
			for to, x := range row {
				if sum += x / 4; from == to && x != 0 {
					t.Errorf("node %d sends %v to itself", from, x)
				}
			}
		}
		for _, x := range r.Traffic.Sent {
			want += x / 2
		}
		if math.Abs(sum-want) > 1e-9 || r.Traffic.PreviousBetween != nil {
			t.Errorf("%v copies between nodes, %v leave theirs", sum, want)
		}
	}
	from := p
	from.Previous = &plain.Placement
	if r := plan(from, Options{}); len(r.Traffic.PreviousBetween) != 4 || !slices.Equal(r.Traffic.PreviousBetween[1], perNode.Traffic.EvenBetween[1]) {
		t.Errorf("%v between nodes in force, %v without routes", r.Traffic.PreviousBetween, perNode.Traffic.EvenBetween)
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
	if r := plan(p, Options{Copies: PerExpert}); r.Traffic.Sent[0] >= r.Traffic.EvenSent[0] {
		t.Errorf("with an expert everywhere: sends %v, %v without routes", r.Traffic.Sent[0], r.Traffic.EvenSent[0])
	}
}
