package eplb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// constrained is what a plan with constraints must keep, whatever else it is for.
func constrained(p *Problem, o *Options, r *Result) error {
	at := &r.Placement
	if err := at.Validate(); err != nil {
		return err
	}
	if err := at.CheckComplete(); err != nil {
		return err
	}
	if at.Duplicates() > 0 {
		return errors.New("an expert twice on a GPU")
	}
	t := &p.Topology
	first := at.FirstSlots()
	for l, row := range at.PhysicalToLogical {
		nodes, domains := make([]map[int]bool, at.Experts), make([]map[int]bool, at.Experts)
		for g := range t.GPUs {
			held := row[first[g]:first[g+1]]
			for _, e := range held {
				if e < 0 {
					continue
				}
				if t.SpeedOf(g) == 0 {
					return fmt.Errorf("layer %d: expert %d on GPU %d, which is out of service", l, e, g)
				}
				if nodes[e] == nil {
					nodes[e], domains[e] = map[int]bool{}, map[int]bool{}
				}
				nodes[e][t.Node(g)], domains[e][t.Domain(g)] = true, true
			}
			for _, e := range p.Everywhere {
				if t.SpeedOf(g) > 0 && !slices.Contains(held, e) {
					return fmt.Errorf("layer %d: expert %d is not on GPU %d", l, e, g)
				}
			}
		}
		for e := range nodes {
			if o.TwoNodes && len(nodes[e]) < 2 || o.TwoDomains && len(domains[e]) < 2 {
				return fmt.Errorf("layer %d: expert %d on %d nodes, in %d domains", l, e, len(nodes[e]), len(domains[e]))
			}
		}
	}
	return nil
}

// Nodes of any sizes, domains apart from nodes, experts everywhere, dead GPUs, a
// placement in force that is incomplete, budgets and windows go together.
func TestConstraintsCombine(t *testing.T) {
	seed := uint64(11)
	rng := rand.New(rand.NewPCG(seed, 0))
	cases := 120
	if !long.Tests() {
		cases = 40
	}
	for n := range cases {
		p := Problem{Topology: placement.Topology{NodeGPUs: []int{}}}
		for range 2 + rng.IntN(3) {
			k := 1 + rng.IntN(4)
			p.Topology.NodeGPUs = append(p.Topology.NodeGPUs, k)
			p.Topology.GPUs += k
		}
		gpus := p.Topology.GPUs
		if rng.IntN(2) == 0 {
			half := 1 + rng.IntN(gpus-1)
			p.Topology.DomainGPUs = []int{half, gpus - half}
		}
		experts := 4 + rng.IntN(20)
		o := Options{Locality: Free, Workers: 1}
		if rng.IntN(3) > 0 {
			p.Everywhere = rng.Perm(experts)[:1+rng.IntN(3)]
		}
		switch rng.IntN(3) {
		case 0:
			o.TwoNodes = true
		case 1:
			o.TwoDomains = true
		}
		each := len(p.Everywhere) + (3*experts+gpus-1)/gpus + 2
		p.Replicas = gpus*each - rng.IntN(2)
		if rng.IntN(2) == 0 && gpus > 4 {
			p.Topology.Speed = slices.Repeat([]float64{1}, gpus)
			p.Topology.Speed[rng.IntN(gpus)] = 0
			if rng.IntN(2) == 0 {
				p.Topology.Speed[rng.IntN(gpus)] = .5
			}
		}
		window := func() placement.Loads {
			l := placement.NewLoads(2, experts)
			for i := range l {
				for e := range l[i] {
					l[i][e] = float64(1 + rng.IntN(100))
				}
			}
			return l
		}
		if rng.IntN(3) == 0 {
			p.Windows = []placement.Loads{window(), window(), window()}
		} else {
			p.Loads = window()
		}
		if rng.IntN(2) == 0 {
			before := placement.Trivial(2, experts, p.Replicas, gpus)
			for _, row := range before.PhysicalToLogical {
				for range rng.IntN(8) {
					row[rng.IntN(len(row))] = -1
				}
			}
			p.Previous = &before
			if rng.IntN(2) == 0 {
				o.MaxMoves = 1 + rng.IntN(20)
			}
		}
		given := p
		r, err := Plan(context.Background(), p, o)
		if err != nil {
			var bad *placement.Error
			if !errors.As(err, &bad) || bad.Kind != placement.ErrFit {
				t.Fatalf("seed %d, case %d: %v", seed, n, err)
			}
			continue // one domain holds too little
		}
		if err := constrained(&given, &o, &r); err != nil {
			t.Fatalf("seed %d, case %d: %v\n%+v %+v", seed, n, err, given, o)
		}
		if p.Previous != nil && p.Topology.Speed == nil {
			moves, err := p.Previous.CountMoves(&r.Placement)
			for l, m := range moves {
				if err != nil || m != r.Layers[l].Moves {
					t.Fatalf("seed %d, case %d, layer %d: %d moves reported, %d counted (%v)", seed, n, l, r.Layers[l].Moves, m, err)
				}
			}
		}
		if p.Windows == nil {
			scores, err := r.Placement.ScoreLayers(p.Loads, p.Topology)
			for l, s := range scores {
				if x := r.Layers[l]; err != nil || math.Abs(s.Imbalance-x.Imbalance) > 1e-9 || x.LowerBound > x.Imbalance {
					t.Fatalf("seed %d, case %d, layer %d: %+v, scored %v (%v)", seed, n, l, x, s.Imbalance, err)
				}
			}
		}
	}
}

// Against all placements of tiny units: those everywhere cost nothing beyond
// what their slots do.
func TestEverywhereAgainstAll(t *testing.T) {
	const seed = 12
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range 30 {
		loads := placement.NewLoads(1, 4)
		for e := range loads[0] {
			loads[0][e] = float64(1 + rng.IntN(9))
		}
		p := Problem{Loads: loads, Replicas: 6, Topology: placement.Topology{GPUs: 2}, Everywhere: []int{rng.IntN(4)}}
		r, err := Plan(context.Background(), p, Options{Tolerance: -1})
		if err != nil {
			t.Fatal(err)
		}
		best := math.Inf(1)
		at := placement.Placement{Experts: 4, GPUs: 2, PhysicalToLogical: [][]int{make([]int, 6)}}
		row := at.PhysicalToLogical[0]
		var fill func(s int)
		fill = func(s int) {
			if s < len(row) {
				for e := range 4 {
					if i := s - s%3; !slices.Contains(row[i:s], e) {
						row[s] = e
						fill(s + 1)
					}
				}
				return
			}
			if slices.Contains(row[:3], p.Everywhere[0]) && slices.Contains(row[3:], p.Everywhere[0]) && at.CheckComplete() == nil {
				scores, _ := at.ScoreLayers(loads, placement.Topology{})
				best = min(best, scores[0].Imbalance)
			}
		}
		fill(0)
		if x := r.Layers[0]; math.Abs(x.Imbalance-best) > 1e-9 || x.LowerBound > best+1e-9 {
			t.Fatalf("seed %d, case %d: %+v, the best is %v for %v", seed, n, x, best, loads)
		}
	}
}

func TestConstraintErrors(t *testing.T) {
	good := func() (Problem, Options) {
		return Problem{Loads: placement.Loads{{1, 2, 3, 4}}, Replicas: 12, Topology: placement.Topology{GPUs: 4, Nodes: 2}}, Options{Locality: Free}
	}
	for _, c := range []struct {
		name  string
		spoil func(p *Problem, o *Options)
		want  string
	}{
		{"out of range", func(p *Problem, o *Options) { p.Everywhere = []int{0, 4} }, "everywhere: index 1: expert 4: there are 4"},
		{"negative", func(p *Problem, o *Options) { p.Everywhere = []int{-1} }, "everywhere: index 0: expert -1"},
		{"twice", func(p *Problem, o *Options) { p.Everywhere = []int{1, 1} }, "everywhere: index 1: expert 1 stands twice"},
		{"no room", func(p *Problem, o *Options) { p.Everywhere, p.Replicas = []int{0, 1}, 8 }, "everywhere: 2 experts on every GPU leave 0 slots in service for the other 2"},
		{"fewer slots than everywhere", func(p *Problem, o *Options) { p.Everywhere, p.Replicas = []int{0, 1}, 7 }, "everywhere: 2 experts on GPU 3, which has 1 slots"},
		{"groups", func(p *Problem, o *Options) { p.Everywhere, p.Groups, o.Locality = []int{0}, 2, ByGroup }, "everywhere: members of groups"},
		{"deepseek", func(p *Problem, o *Options) { p.Everywhere, o.Policy = []int{0}, DeepSeek }, "everywhere: policy deepseek"},
		{"all everywhere on one domain", func(p *Problem, o *Options) {
			p.Everywhere, p.Replicas, o.TwoDomains, p.Topology.DomainGPUs = []int{0, 1, 2, 3}, 16, true, []int{4}
		}, "two_domains: 1 domain in service"},
		{"all everywhere on a node that serves", func(p *Problem, o *Options) {
			p.Everywhere, p.Replicas, o.TwoNodes, p.Topology.Speed = []int{0, 1, 2, 3}, 16, true, []float64{1, 1, 0, 0}
		}, "two_nodes: 1 node in service"},
		{"one domain", func(p *Problem, o *Options) { o.TwoDomains, p.Topology.DomainGPUs = true, []int{4} }, "two_domains: 1 domain in service"},
		{"domains that cross", func(p *Problem, o *Options) {
			o.TwoDomains, o.TwoNodes, p.Topology.GPUs, p.Topology.Nodes, p.Topology.DomainGPUs = true, true, 6, 2, []int{2, 2, 2}
		}, "two_domains: beside two_nodes"},
		{"domains with groups", func(p *Problem, o *Options) { o.TwoDomains, p.Groups, o.Locality = true, 2, ByGroup }, "two_domains: groups"},
	} {
		p, o := good()
		c.spoil(&p, &o)
		_, err := Plan(context.Background(), p, o)
		if got := fmt.Sprint(err); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// Nothing moves where nothing was.
func TestEverywhereMovesNothingAnew(t *testing.T) {
	p := Problem{Loads: placement.Loads{{4, 3, 2, 1}}, Replicas: 8, Topology: placement.Topology{GPUs: 4}, Everywhere: []int{1}}
	r, err := Plan(t.Context(), p, Options{})
	if err != nil || r.Layers[0].Moves != 0 {
		t.Errorf("%d moves, %v", r.Layers[0].Moves, err)
	}
}

// What is proved of the others is so of the whole by their share of the load: 10 beside 1
// is the best for them, 19 of 16 with the last expert, which no move leads to.
func TestEverywhereBoundIsOfTheWhole(t *testing.T) {
	p := Problem{Loads: placement.Loads{{10, 4, 1, 1, 16}}, Replicas: 6, Topology: placement.Topology{GPUs: 2}, Everywhere: []int{4}}
	p.Previous = &placement.Placement{Experts: 5, GPUs: 2, PhysicalToLogical: [][]int{{4, 0, 1, 4, 2, 3}}}
	y := mustPlan(t, p, Options{MaxMoves: -1}).Layers[0]
	if y.Imbalance != 22./16 || y.LowerBound > 19./16 || y.LowerBound < 18./16 {
		t.Errorf("%+v", y)
	}
}

// On one node every group is at home.
func TestEverywhereBesideGroupsOnOneNode(t *testing.T) {
	p := Problem{Loads: placement.Loads{{4, 3, 2, 1, 9}}, Replicas: 12, Groups: 2, Topology: placement.Topology{GPUs: 4}, Everywhere: []int{4}}
	o := Options{Locality: ByGroup}
	r := mustPlan(t, p, o)
	if err := constrained(&p, &o, &r); err != nil || r.Locality != nil {
		t.Error(err, r.Locality)
	}
}

// Experts everywhere load a slow GPU as much as a fast one: the others make up
// for it.
func TestEverywhereSpeeds(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 0))
	loads := placement.NewLoads(3, 66)
	for _, row := range loads {
		sum := 0.0
		for e := range 64 {
			row[e] = 100 * rng.Float64()
			sum += row[e]
		}
		row[64], row[65] = sum/8, sum/16
	}
	p := Problem{Loads: loads, Replicas: 120, Topology: placement.Topology{GPUs: 8, Speed: []float64{1, 1, .8, 1, 1, .9, 1, .5}}, Everywhere: []int{64, 65}}
	r, err := Plan(context.Background(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for l, x := range r.Layers {
		if x.Imbalance > 1.005 {
			t.Errorf("layer %d: %v", l, x.Imbalance)
		}
	}
}

// A GPU that is too slow for what is everywhere is left what it must hold.
func TestEverywhereTooMuch(t *testing.T) {
	p := Problem{Loads: placement.Loads{{10, 3, 2, 1, 2, 2}}, Replicas: 12, Topology: placement.Topology{GPUs: 4, Speed: []float64{1, .1, 1, 1}}, Everywhere: []int{0}}
	r := mustPlan(t, p, Options{})
	if got, want := r.Layers[0].Imbalance, 10./4/.1/(20/3.1); got < want || got > want*1.6 {
		t.Errorf("imbalance %v, with what is everywhere alone %v", got, want)
	}
	p.Topology.Speed = []float64{1, 1e-6, 1e6, 1e6} // as far apart as speeds may be
	mustPlan(t, p, Options{})
}

// What is proved of the others holds of the whole only where those everywhere load all
// GPUs alike: not where a split may send their tokens elsewhere, nor at unlike speeds.
func TestEverywhereBounds(t *testing.T) {
	p := Problem{Loads: placement.Loads{{10, 2, 1}}, Replicas: 4, Topology: placement.Topology{GPUs: 2}, Everywhere: []int{2}}
	for _, c := range []struct {
		speed     []float64
		dispatch  Dispatch
		imbalance float64
		bound     float64
	}{{nil, Even, 10.5 / 6.5, 10.5 / 6.5}, {nil, Split, 10 / 6.5, 1}, {[]float64{1, .5}, Even, 10.5 / 1 * 1.5 / 13, 1}} {
		p.Topology.Speed = c.speed
		r, err := Plan(t.Context(), p, Options{Dispatch: c.dispatch})
		if err != nil {
			t.Fatal(err)
		}
		if x := r.Layers[0]; math.Abs(x.Imbalance-c.imbalance) > 1e-9 || math.Abs(x.LowerBound-c.bound) > 1e-9 {
			t.Errorf("speeds %v, dispatch %v: %+v, want %v, proved %v", c.speed, c.dispatch, x, c.imbalance, c.bound)
		}
	}
}

// Experts that are on every GPU already take nothing of a budget of moves, those that
// are not take a move for each GPU that lacks them, and the rest is for others.
func TestEverywhereBudget(t *testing.T) {
	rng := rand.New(rand.NewPCG(14, 0))
	loads := placement.NewLoads(1, 24)
	for e := range loads[0] {
		loads[0][e] = float64(1 + rng.IntN(100))
	}
	p := Problem{Loads: loads, Replicas: 48, Topology: placement.Topology{GPUs: 8}, Everywhere: []int{5}}
	r, err := Plan(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	was := r.Placement
	p.Previous = &was
	slices.Reverse(loads[0])
	lack := 8
	for row := range slices.Chunk(was.PhysicalToLogical[0], 6) {
		if slices.Contains(row, 7) {
			lack--
		}
	}
	for _, c := range []struct{ everywhere, budget, least int }{{5, 5, 3}, {7, 12, 8}, {7, lack, lack}} {
		p.Everywhere = []int{c.everywhere}
		if r, err = Plan(t.Context(), p, Options{MaxMoves: c.budget}); err != nil {
			t.Fatal(err)
		}
		if n := r.Layers[0].Moves; n < c.least || n > c.budget {
			t.Errorf("expert %d everywhere: %d moves, want %d to %d", c.everywhere, n, c.least, c.budget)
		}
	}
}

// Where domains cross nodes every expert is on two of both: in a plan, from a placement
// in force, around a dead GPU.
func TestDomainsThatCrossNodes(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 21))
		unit := placement.Topology{GPUs: 12, NodeGPUs: []int{3, 3, 2, 4}, DomainGPUs: []int{2, 4, 1, 1, 4}}
		loads := placement.NewLoads(1, 20)
		for e := range loads[0] {
			loads[0][e] = float64(1 + rng.IntN(100))
		}
		p := Problem{Loads: loads, Replicas: 48, Topology: unit}
		o := Options{TwoNodes: true, TwoDomains: true}
		for range 3 {
			r, err := Plan(t.Context(), p, o)
			if err != nil {
				t.Fatal(err)
			}
			var nodes, domains [20]uint
			for i, e := range r.Placement.PhysicalToLogical[0] {
				if e >= 0 {
					nodes[e] |= 1 << unit.Node(i/4)
					domains[e] |= 1 << unit.Domain(i/4)
				}
			}
			for e := range nodes {
				if nodes[e]&(nodes[e]-1) == 0 || domains[e]&(domains[e]-1) == 0 {
					t.Fatalf("seed %d: expert %d is on nodes %b and domains %b", seed, e, nodes[e], domains[e])
				}
			}
			if x := r.Layers[0].Imbalance; x > 1.05 {
				t.Errorf("seed %d: imbalance %v", seed, x)
			}
			for e := range loads[0] {
				loads[0][e] = float64(1 + rng.IntN(100))
			}
			p.Previous = &r.Placement
			p.Topology.Speed = slices.Repeat([]float64{1}, 12)
			p.Topology.Speed[rng.IntN(12)] = 0
		}
	}
}

// A shared expert after the routed ones is on every GPU, and their groups stay on nodes:
// the plan of the others is that of a unit without it.
func TestEverywhereWithGroups(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	loads, alone := placement.NewLoads(2, 33), placement.NewLoads(2, 32)
	for l, row := range loads {
		for e := range 32 {
			row[e] = float64(1 + rng.IntN(100))
			alone[l][e] = row[e]
		}
		row[32] = 1000
	}
	unit := placement.Topology{GPUs: 8, Nodes: 4}
	o := Options{Locality: ByGroup, OffNodeReplicas: 2}
	p := Problem{Loads: loads, Replicas: 48, Groups: 8, Topology: unit, Everywhere: []int{32}}
	r, err := Plan(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Plan(t.Context(), Problem{Loads: alone, Replicas: 40, Groups: 8, Topology: unit}, o)
	if err != nil {
		t.Fatal(err)
	}
	for l, row := range r.Placement.PhysicalToLogical {
		off := 0
		var others []int
		for g := range 8 {
			gpu := slices.Clone(row[6*g : 6*g+6])
			i := slices.Index(gpu, 32)
			if i < 0 {
				t.Fatalf("layer %d: GPU %d has %v", l, g, gpu)
			}
			gpu = slices.Delete(gpu, i, i+1)
			for _, e := range gpu {
				if r.Locality.Home[l][e/4] != g/2 {
					off++
				}
			}
			slices.Sort(gpu)
			plain := slices.Clone(want.Placement.PhysicalToLogical[l][5*g : 5*g+5])
			slices.Sort(plain)
			others = append(others, gpu...)
			if !slices.Equal(gpu, plain) {
				t.Errorf("layer %d: GPU %d has %v beside 32, without it %v", l, g, gpu, plain)
			}
		}
		if off > 2 || off != r.Locality.OffNodeReplicas[l] || len(others) != 40 {
			t.Errorf("layer %d: %d replicas off their node, says %d", l, off, r.Locality.OffNodeReplicas[l])
		}
		if free := r.Locality.FreeImbalance[l]; free < 1 || free > r.Layers[l].Imbalance || r.Locality.OffNodeShare[l] >= want.Locality.OffNodeShare[l] {
			t.Errorf("layer %d: without groups %v, off their node %v", l, free, r.Locality.OffNodeShare[l])
		}
		sum, total := 0.0, 1000.
		for _, w := range alone[l] {
			sum += w
		}
		total += sum
		if free := (want.Locality.FreeImbalance[l]*sum + 1000) / total; math.Abs(free-r.Locality.FreeImbalance[l]) > 1e-9 {
			t.Errorf("layer %d: without groups %v, want %v", l, r.Locality.FreeImbalance[l], free)
		}
		if level := (want.Layers[l].Imbalance*sum + 1000) / total; math.Abs(level-r.Layers[l].Imbalance) > 1e-9 || r.Layers[l].LowerBound > level+1e-9 {
			t.Errorf("layer %d: %+v, want %v", l, r.Layers[l], level)
		}
	}
	// From that placement, with other loads, it is kept too.
	for e := range 32 {
		loads[0][e], loads[1][e] = loads[1][e], loads[0][e]
	}
	p.Previous = &r.Placement
	if r, err = Plan(t.Context(), p, o); err != nil {
		t.Fatal(err)
	}
	for l, row := range r.Placement.PhysicalToLogical {
		for g := range 8 {
			if !slices.Contains(row[6*g:6*g+6], 32) {
				t.Errorf("layer %d: GPU %d has %v", l, g, row[6*g:6*g+6])
			}
		}
		if r.Layers[l].Moves == 0 || r.Locality.OffNodeReplicas[l] > 2 {
			t.Errorf("layer %d: %+v, %d off", l, r.Layers[l], r.Locality.OffNodeReplicas[l])
		}
	}
	// And with tokens beside.
	p.Routes = topicRoutes(1, 2, 33, 4, 600, 5)
	if r, err = Plan(t.Context(), p, o); err != nil {
		t.Fatal(err)
	}
	checkHomes(t, "with routes", p, o, r)
}

// TestEverywhereInWideGPUs: a GPU with more slots than there are experts has them in its
// first, where they are looked for; a split was scored without those that had stayed in
// later ones.
func TestEverywhereInWideGPUs(t *testing.T) {
	was := &placement.Placement{Experts: 2, GPUs: 2, PhysicalToLogical: [][]int{{0, 0, 0, 1, 1, 1, 1, 0}}}
	p := Problem{Loads: placement.Loads{{7, 3}}, Replicas: 8, Topology: placement.Topology{GPUs: 2}, Everywhere: []int{1}, Previous: was}
	r, err := Plan(context.Background(), p, Options{Dispatch: Split})
	if err != nil {
		t.Fatal(err)
	}
	if y := r.Layers[0]; y.Imbalance != 1 || y.Status != Proved || y.Moves != 0 {
		t.Errorf("%+v: %v", y, r.Placement.PhysicalToLogical)
	}
}

// Where an expert comes to be everywhere, the plan says which others make room for it.
func TestEverywhereMakesRoom(t *testing.T) {
	sum := 0.0
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 11))
		was, loads := placement.NewLoads(1, 24), placement.NewLoads(1, 24)
		for e := range loads[0] {
			was[0][e], loads[0][e] = rng.ExpFloat64(), rng.ExpFloat64()
		}
		p := Problem{Loads: was, Replicas: 40, Topology: placement.Topology{GPUs: 8}}
		old, err := Plan(t.Context(), p, Options{})
		if err != nil {
			t.Fatal(err)
		}
		p.Loads, p.Previous, p.Everywhere = loads, &old.Placement, []int{3}
		r, err := Plan(t.Context(), p, Options{MaxMoves: 10})
		if err != nil {
			t.Fatal(err)
		}
		if err := constrained(&p, &Options{}, &r); err != nil {
			t.Error(err)
		}
		sum += r.Layers[0].Imbalance / 12
	}
	if sum > 1.11 {
		t.Errorf("imbalance %v", sum)
	}
}

// Others that have hardly any load are planned beside one that has all.
func TestEverywhereBesideTraces(t *testing.T) {
	plan := func(x float64) placement.Placement {
		p := Problem{Loads: placement.Loads{{1, 5 * x, 9 * x, 2 * x, x}}, Replicas: 12, Topology: placement.Topology{GPUs: 4}, Everywhere: []int{0}}
		return mustPlan(t, p, Options{}).Placement
	}
	if got, want := fmt.Sprint(plan(5e-324)), fmt.Sprint(plan(5e-324*0x1p1000)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
