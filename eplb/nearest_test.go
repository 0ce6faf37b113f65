package eplb

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

func skewedLoads(seed uint64, layers, experts int, skew float64) placement.Loads {
	rng := rand.New(rand.NewPCG(seed, 12))
	l := placement.NewLoads(layers, experts)
	for i := range l {
		for rank, e := range rng.Perm(experts) {
			l[i][e] = math.Pow(float64(rank+1), -skew) * math.Exp(.2*rng.NormFloat64())
		}
	}
	return l
}

func TestNearestCombinesWithEverything(t *testing.T) {
	const layers, experts = 2, 64
	loads := skewedLoads(1, layers, experts, .6)
	routes := topicRoutes(6, layers, experts, 4, 200, 5)
	base := Problem{Loads: loads, Replicas: 96, Topology: placement.Topology{GPUs: 16, Nodes: 4}}
	plan := func(name string, p Problem, o Options) Result {
		t.Helper()
		r, err := Plan(context.Background(), p, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	old := plan("old", Problem{Loads: skewedLoads(2, layers, experts, .6), Replicas: 96, Topology: base.Topology}, Options{Dispatch: Nearest}).Placement
	for _, c := range []struct {
		name string
		most float64 // of the imbalance
		set  func(p *Problem, o *Options)
	}{
		{"plain", 1.02, func(p *Problem, o *Options) {}},
		{"one node", 1.02, func(p *Problem, o *Options) { p.Topology.Nodes = 1 }},
		{"speeds and a dead GPU", 1.05, func(p *Problem, o *Options) {
			p.Topology.Speed = []float64{1, 1, 1, 1, 1, .5, 1, 1, 0, 1, 1, 1, 1, 1, 1, 2}
		}},
		{"uneven nodes and slots", 1.05, func(p *Problem, o *Options) {
			p.Replicas, p.Topology.Nodes, p.Topology.NodeGPUs = 99, 0, []int{6, 4, 4, 2}
		}},
		{"two nodes", 1.1, func(p *Problem, o *Options) { p.Replicas, o.TwoNodes = 144, true }},
		{"everywhere", 1.05, func(p *Problem, o *Options) {
			p.Everywhere, p.Replicas = []int{3}, 112
		}},
		{"windows", 1.1, func(p *Problem, o *Options) {
			p.Loads, p.Windows = nil, []placement.Loads{loads, skewedLoads(1, layers, experts, .7)}
		}},
		{"groups", 1.6, func(p *Problem, o *Options) { p.Groups, o.Locality = 8, ByGroup }},
		{"previous", 1.05, func(p *Problem, o *Options) { p.Previous = &old }},
		{"previous and target", 1.2, func(p *Problem, o *Options) { p.Previous, o.Target = &old, 1.2 }},
		{"previous and few moves", 2, func(p *Problem, o *Options) { p.Previous, o.MaxMoves = &old, 9 }},
		{"routes", 1.05, func(p *Problem, o *Options) { p.Routes = routes }},
	} {
		p, o := base, Options{Dispatch: Nearest}
		c.set(&p, &o)
		r := plan(c.name, p, o)
		if err := r.Placement.Validate(); err != nil || r.Placement.Duplicates() > 0 {
			t.Errorf("%s: %v, %d duplicates", c.name, err, r.Placement.Duplicates())
		}
		windows := p.Windows
		if windows == nil {
			windows = []placement.Loads{p.Loads}
		}
		want, err := r.Placement.NearestOver(windows, p.Topology)
		if err != nil {
			t.Fatal(err)
		}
		moves := 0
		for l, y := range r.Layers {
			if math.Abs(y.Imbalance-want[l]) > 1e-9 || y.LowerBound > y.Imbalance || y.Imbalance > c.most {
				t.Errorf("%s: layer %d: says %v (bound %v), scored %v, want at most %v", c.name, l, y.Imbalance, y.LowerBound, want[l], c.most)
			}
			if p.Previous != nil {
				n := 0
				for s, e := range r.Placement.PhysicalToLogical[l] {
					if g := s / 6; !slices.Contains(old.PhysicalToLogical[l][g*6:g*6+6], e) {
						n++
					}
				}
				if n != y.Moves {
					t.Errorf("%s: layer %d: says %d moves, counted %d", c.name, l, y.Moves, n)
				}
				moves += n
			}
			if o.TwoNodes {
				on := map[int]map[int]bool{}
				for s, e := range r.Placement.PhysicalToLogical[l] {
					if on[e] == nil {
						on[e] = map[int]bool{}
					}
					on[e][s/36] = true
				}
				for e, nodes := range on {
					if len(nodes) < 2 {
						t.Errorf("%s: expert %d on one node", c.name, e)
					}
				}
			}
		}
		if o.MaxMoves > 0 && moves > o.MaxMoves || p.Previous != nil && moves > 150 {
			t.Errorf("%s: %d moves", c.name, moves)
		}
		if r.Locality != nil {
			for l, x := range r.Locality.FreeImbalance {
				if x > r.Layers[l].Imbalance {
					t.Errorf("%s: layer %d: %v without groups, %v with", c.name, l, x, r.Layers[l].Imbalance)
				}
			}
			for e := range experts {
				for s, f := range r.Placement.PhysicalToLogical[0] {
					if f == e && r.Locality.Home[0][e/8] != s/24 {
						t.Errorf("%s: expert %d off its node", c.name, e)
					}
				}
			}
		}
		o.Workers = 1
		if again := plan(c.name, p, o); !sameResult(again, r) {
			t.Errorf("%s: another plan with one worker", c.name)
		}
	}
}

// TestNearestBound: no placement of three experts on four slots is below the bound.
func TestNearestBound(t *testing.T) {
	for seed := range uint64(30) {
		loads := skewedLoads(seed, 1, 3, 1)
		p := Problem{Loads: loads, Replicas: 4, Topology: placement.Topology{GPUs: 2, Nodes: 1 + int(seed%2)}}
		r, err := Plan(context.Background(), p, Options{Dispatch: Nearest})
		if err != nil {
			t.Fatal(err)
		}
		best := math.Inf(1)
		for code := range 81 {
			row := []int{code % 3, code / 3 % 3, code / 9 % 3, code / 27}
			at := placement.Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{row}}
			if at.Duplicates() > 0 {
				continue // a slot that is wasted
			}
			if s, err := at.ScoreNearest(loads, p.Topology); err == nil {
				best = min(best, s[0].Imbalance)
			}
		}
		if y := r.Layers[0]; y.LowerBound > best*(1+1e-9) || y.Imbalance > best*(1+1e-9) {
			t.Errorf("seed %d: %v (bound %v), at best %v", seed, y.Imbalance, y.LowerBound, best)
		}
	}
}

// TestNearestComesBackForFree: where GPUs have fewer slots than before, an expert that
// lost its slot but is on its GPU again is no move, in the plan as in its report.
func TestNearestComesBackForFree(t *testing.T) {
	const seeds, most = 12, 4
	mean := 0.0
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 9))
		was, now := placement.NewLoads(1, 24), placement.NewLoads(1, 24)
		for e := range was[0] {
			was[0][e] = math.Exp(r.NormFloat64())
			now[0][e] = was[0][e] * math.Exp(.5*r.NormFloat64())
		}
		p := Problem{Loads: was, Replicas: 48, Topology: placement.Topology{GPUs: 8, Nodes: 2}}
		before, err := Plan(context.Background(), p, Options{Dispatch: Nearest})
		if err != nil {
			t.Fatal(err)
		}
		p.Loads, p.Replicas, p.Previous = now, 32, &before.Placement
		after, err := Plan(context.Background(), p, Options{Dispatch: Nearest, MaxMoves: most})
		if err != nil {
			t.Fatal(err)
		}
		mean += after.Layers[0].Imbalance / seeds
	}
	if mean > 1.06 {
		t.Errorf("imbalance %.4f after %d moves in the mean of %d layers, 1.1 where they are counted twice", mean, most, seeds)
	}
}

// From a placement in force, without a limit of moves, a plan is about as even as from
// scratch: where moves do not get there, that plan is taken.
func TestNearestTakesThePlanFromScratch(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 9))
		p := Problem{Loads: placement.NewLoads(1, 16), Replicas: 24, Topology: placement.Topology{GPUs: 8, Nodes: 2}}
		var in [2]Result
		for i := range in {
			for e := range p.Loads[0] {
				p.Loads[0][e] = math.Exp(1.5 * rng.NormFloat64())
			}
			in[i] = mustPlan(t, p, Options{Dispatch: Nearest})
		}
		p.Previous = &in[0].Placement
		if x := mustPlan(t, p, Options{Dispatch: Nearest}).Layers[0].Imbalance; x > in[1].Layers[0].Imbalance*moveTarget+1e-12 {
			t.Errorf("seed %d: imbalance %v, from scratch %v", seed, x, in[1].Layers[0].Imbalance)
		}
	}
}

// Whenever the search is stopped, what is proved is proved of dispatch to the nearest
// replica, which may be more even than any even split.
func TestNearestBoundStopped(t *testing.T) {
	p := Problem{Loads: placement.Loads{{651, 795, 378, 494, 525}}, Replicas: 9, Topology: placement.Topology{GPUs: 4, Nodes: 2}}
	least := math.Inf(1)
	for k := range 400 {
		r, err := Plan(&countdown{t.Context(), k}, p, Options{Dispatch: Nearest, Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		if least = min(least, r.Layers[0].Imbalance); r.Layers[0].LowerBound > 1.0173 {
			t.Fatalf("stopped after %d: bound %v, but plans reach 1.0172", k, r.Layers[0].LowerBound)
		}
	}
	if least > 1.0173 {
		t.Errorf("the best plan is at %v", least)
	}
}
