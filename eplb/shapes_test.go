package eplb

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
)

// Layers of different shapes are each planned as a problem of one layer would be, also
// over windows, from a placement in force and around a dead GPU; where all shapes are
// one nothing is different.
func TestLayersOfDifferentShapes(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 31))
		gpus := 2 + rng.IntN(4)
		const layers, experts = 4, 12
		p := Problem{Replicas: gpus * (3 + 12/(gpus-1)), Topology: placement.Topology{GPUs: gpus}}
		for range layers {
			p.LayerExperts = append(p.LayerExperts, []int{12, 9, 6}[rng.IntN(3)])
			p.LayerReplicas = append(p.LayerReplicas, p.Replicas-rng.IntN(2)*rng.IntN(gpus+1))
		}
		draw := func() placement.Loads {
			out := placement.NewLoads(layers, experts)
			for l, row := range out {
				for e := range p.LayerExperts[l] {
					row[e] = float64(1 + rng.IntN(90))
				}
			}
			return out
		}
		o := Options{Locality: Free}
		if p.Loads = draw(); rng.IntN(3) == 0 {
			p.Windows, p.Loads = []placement.Loads{p.Loads, draw()}, nil
		}
		for range 2 {
			r, err := Plan(t.Context(), p, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Placement.Validate(); err != nil || r.Placement.CheckComplete() != nil {
				t.Fatalf("seed %d: %v, %v", seed, err, r.Placement.CheckComplete())
			}
			first := r.Placement.FirstSlots()
			for l := range layers {
				q := Problem{Replicas: p.LayerReplicas[l], Topology: p.Topology}
				cut := func(w placement.Loads) placement.Loads { return placement.Loads{w[l][:p.LayerExperts[l]]} }
				if p.Windows != nil {
					q.Windows = []placement.Loads{cut(p.Windows[0]), cut(p.Windows[1])}
				} else {
					q.Loads = cut(p.Loads)
				}
				if v := p.Previous; v != nil {
					q.Previous = &placement.Placement{Experts: p.LayerExperts[l], GPUs: v.GPUs, GPUSlots: v.GPUSlots, PhysicalToLogical: v.PhysicalToLogical[l : l+1]}
				}
				one, err := Plan(t.Context(), q, o)
				if err != nil {
					t.Fatal(err)
				}
				if one.Layers[0].Moves != r.Layers[l].Moves || one.Layers[0].Imbalance != r.Layers[l].Imbalance {
					t.Errorf("seed %d, layer %d: %+v, alone %+v", seed, l, r.Layers[l], one.Layers[0])
				}
				at := one.Placement.FirstSlots()
				for g := range gpus {
					want := slices.Clone(one.Placement.PhysicalToLogical[0][at[g]:at[g+1]])
					got := r.Placement.PhysicalToLogical[l][first[g]:first[g+1]]
					if !slices.Equal(got[:len(want)], want) || slices.ContainsFunc(got[len(want):], func(e int) bool { return e >= 0 }) {
						t.Errorf("seed %d, layer %d, GPU %d: %v, alone %v", seed, l, g, got, want)
					}
				}
			}
			p.Previous = &r.Placement
			p.Windows, p.Loads = nil, draw()
			if gpus > 2 && rng.IntN(2) == 0 {
				p.Topology.Speed = slices.Repeat([]float64{1}, gpus)
				p.Topology.Speed[rng.IntN(gpus)] = 0
			}
		}
		same := Problem{Loads: p.Loads, Replicas: p.Replicas, Topology: placement.Topology{GPUs: gpus}}
		want, err := Plan(t.Context(), same, o)
		if err != nil {
			t.Fatal(err)
		}
		same.LayerExperts = slices.Repeat([]int{experts}, layers)
		got, err := Plan(t.Context(), same, o)
		if err != nil || fmt.Sprint(got.Placement.PhysicalToLogical, got.Layers) != fmt.Sprint(want.Placement.PhysicalToLogical, want.Layers) {
			t.Errorf("seed %d: layers of one shape: %v", seed, err)
		}
	}
}

// What one shape has no use for, later ones have.
func TestShapesLeaveMoves(t *testing.T) {
	at := placement.Placement{Experts: 5, LayerExperts: []int{2, 5}, GPUs: 4, PhysicalToLogical: [][]int{{0, 1, 0, 1, 0, 1, 0, 1}, {0, 1, 2, 3, 3, 4, 4, 3}}}
	p := Problem{Loads: placement.Loads{{9, 2, 0, 0, 0}, {9, 3, 2, 1, 0}}, Replicas: 8, Topology: placement.Topology{GPUs: 4}, LayerExperts: at.LayerExperts, Previous: &at}
	r, err := Plan(t.Context(), p, Options{MaxMoves: 2, Target: 1})
	if err != nil || r.Layers[1].Moves != 2 {
		t.Errorf("%+v, %v", r.Layers, err)
	}
}

// A budget of moves is never exceeded, whatever shapes share it, and is spent.
func TestShapesShareMoves(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 31))
	loads := placement.NewLoads(4, 8)
	p := Problem{Loads: loads, Replicas: 12, Topology: placement.Topology{GPUs: 4}, LayerExperts: []int{8, 6, 8, 5}}
	for l, row := range loads {
		for e := range p.LayerExperts[l] {
			row[e] = float64(1 + rng.IntN(90))
		}
	}
	at := placement.Trivial(4, 8, 12, 4)
	at.LayerExperts = p.LayerExperts
	for l, row := range at.PhysicalToLogical {
		for i := range row {
			row[i] = i % p.LayerExperts[l]
		}
	}
	p.Previous = &at
	last := 0
	for _, most := range []int{-1, 1, 2, 5, 9, 100, math.MaxInt} {
		r, err := Plan(t.Context(), p, Options{MaxMoves: most, Target: 1})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, y := range r.Layers {
			n += y.Moves
		}
		if n > max(most, 0) || n < last || most > 0 && n == 0 || most == math.MaxInt && n != last {
			t.Errorf("%d moves of %d", n, most)
		}
		last = n
	}
}

// Layers of different shapes are planned for their tokens' traffic as each would be
// alone, and what is said of all is of each.
func TestShapesRoutes(t *testing.T) {
	wide, narrow := topicRoutes(5, 2, 32, 4, 1200, 4), topicRoutes(6, 1, 24, 4, 1200, 4)
	all := &placement.Routes{TopK: 4, IDs: [][]uint16{wide.IDs[0], narrow.IDs[0], wide.IDs[1][:4*500]}}
	p := Problem{Loads: all.Loads(32), Replicas: 48, Topology: placement.Topology{GPUs: 8, Nodes: 4}, Routes: all, LayerExperts: []int{32, 24, 32}, LayerReplicas: []int{48, 40, 48}}
	from := placement.Trivial(3, 32, 48, 8)
	from.LayerExperts = p.LayerExperts
	for i := range from.PhysicalToLogical[1] {
		from.PhysicalToLogical[1][i] = i % 24
	}
	for _, previous := range []*placement.Placement{nil, &from} {
		p.Previous = previous
		r, err := Plan(t.Context(), p, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for l := range p.Loads {
			q := p
			q.Loads, q.Routes = placement.Loads{p.Loads[l][:p.LayerExperts[l]]}, &placement.Routes{TopK: 4, IDs: all.IDs[l : l+1]}
			q.LayerExperts, q.LayerReplicas, q.Replicas = nil, nil, p.LayerReplicas[l]
			if previous != nil {
				q.Previous = &placement.Placement{Experts: p.LayerExperts[l], GPUs: 8, PhysicalToLogical: previous.PhysicalToLogical[l : l+1]}
			}
			one, err := Plan(t.Context(), q, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if one.Layers[0] != r.Layers[l] || one.Traffic.Moves[0] != r.Traffic.Moves[l] {
				t.Errorf("layer %d: %+v, alone %+v", l, r.Layers[l], one.Layers[0])
			}
			got, want := r.Traffic, one.Traffic
			if got.EvenImbalance[l] != want.EvenImbalance[0] || got.LowerBound[l] != want.LowerBound[0] || (got.Previous == nil) != (previous == nil) {
				t.Errorf("layer %d: %+v, alone %+v", l, got, want)
			}
			if math.IsNaN(want.Plan[0].HeldOut) != (l == 2) {
				t.Errorf("layer %d: %v nodes a token of those held out", l, want.Plan[0].HeldOut)
			}
			for k, x := range [][2][]Visited{{got.Plan, want.Plan}, {got.Even, want.Even}, {got.Previous, want.Previous}} {
				if k < 2 || previous != nil {
					sameVisited(t, &x[0][l], &x[1][0])
				}
			}
		}
	}
}

// sameVisited demands that all numbers are the same.
func sameVisited(t *testing.T, got, want *Visited) {
	t.Helper()
	a, b := got.figures(), want.figures()
	if len(a) != 6+2*4*4 || len(b) != len(a) {
		t.Fatalf("%d figures, %d", len(a), len(b))
	}
	for k := range a {
		if x, y := *a[k], *b[k]; x != y && !(math.IsNaN(x) && math.IsNaN(y)) {
			t.Errorf("figure %d is %v, want %v", k, x, y)
		}
	}
}

// Groups are reported where all shapes keep them on nodes; how many there are said to be
// costs nothing where none does.
func TestShapesGroups(t *testing.T) {
	for _, c := range []struct {
		experts []int
		groups  int
		kept    bool
	}{{[]int{8, 4}, 4, true}, {[]int{8, 6}, 4, false}, {[]int{6, 8}, 4, false}, {[]int{8, 6}, math.MaxInt, false}} {
		p := Problem{Loads: placement.Loads{{1, 2, 3, 4, 0, 0, 0, 0}, {2, 2, 1, 1, 0, 0, 0, 0}}, LayerExperts: c.experts, Groups: c.groups, Replicas: 12, Topology: placement.Topology{GPUs: 4, Nodes: 2}}
		r := mustPlan(t, p, Options{})
		if kept := r.Locality != nil; kept != c.kept {
			t.Errorf("experts %v in %d groups: kept is %v", c.experts, c.groups, kept)
		}
		for l := range c.experts {
			if c.kept && (len(r.Locality.Home[l]) != c.groups || r.Locality.FreeImbalance[l] < 1) {
				t.Errorf("layer %d: %+v", l, r.Locality)
			}
		}
	}
}

func TestShapesRefused(t *testing.T) {
	for _, c := range []struct {
		spoil func(p *Problem)
		want  string
	}{
		{func(p *Problem) { p.LayerExperts = []int{4} }, "layer_experts: 1 entries"},
		{func(p *Problem) { p.LayerExperts = []int{4, 5} }, "layer_experts: layer 1: 5: between 1 and 4"},
		{func(p *Problem) { p.LayerExperts = []int{0, 4} }, "layer_experts: layer 0: 0"},
		{func(p *Problem) { p.LayerReplicas = []int{4} }, "layer_replicas: 1 entries"},
		{func(p *Problem) { p.LayerReplicas = []int{4, 9} }, "layer_replicas: layer 1: 9: between 1 and 8"},
		{func(p *Problem) { p.LayerReplicas = []int{8, 3} }, "layer_replicas: layer 1: 3 replicas for 4 experts"},
		{func(p *Problem) { p.LayerExperts = []int{3, 4} }, "loads: layer 0, index 3: 1, but the layer has 3"},
		{func(p *Problem) { p.Loads[0][3], p.LayerExperts, p.Everywhere = 0, []int{3, 4}, []int{3} }, "everywhere: index 0: expert 3: there are 3"},
		{func(p *Problem) { p.Loads[1][2], p.LayerReplicas = -1, []int{8, 6} }, "loads: layer 1, index 2"},
		{func(p *Problem) { p.LayerReplicas, p.Routes, p.Topology.Nodes = []int{8, 6}, &placement.Routes{}, 2 }, "routes: 0 experts a token"},
		{func(p *Problem) {
			p.Loads[1][3], p.LayerExperts, p.Topology.Nodes = 0, []int{4, 3}, 2
			p.Routes = &placement.Routes{TopK: 2, IDs: [][]uint16{{0, 3}, {0, 1, 3, 2}}}
		}, "routes: layer 1, index 1: expert 3, but the layer has 3"},
		{func(p *Problem) { p.LayerReplicas, p.LayerWeights = []int{8, 6}, []float64{1} }, "layer_weights: 1 entries"},
		{func(p *Problem) { p.LayerReplicas, p.Replicas = []int{8, 6}, 1<<30 }, "num_replicas"},
		{func(p *Problem) { p.LayerReplicas, p.Topology.GPUs = []int{8, 6}, 0 }, "num_gpus"},
		{func(p *Problem) {
			p.LayerReplicas, p.Loads, p.Windows = []int{8, 6}, nil, []placement.Loads{p.Loads, {{1}}}
		}, "loads: window 1: 1 layers of 1 experts, but window 0 has 2 of 4"},
		{func(p *Problem) {
			p.LayerReplicas, p.Loads, p.Windows = []int{8, 6}, nil, []placement.Loads{}
		}, "loads: no windows"},
		{func(p *Problem) {
			at := placement.Trivial(2, 4, 8, 2)
			p.Previous, p.Loads[1][3], p.LayerExperts = &at, 0, []int{4, 3}
		}, "previous: layer 1: 4 experts, but loads have 3 there"},
		{func(p *Problem) {
			at := placement.Trivial(1, 4, 8, 2)
			p.Previous, p.LayerReplicas = &at, []int{8, 6}
		}, "previous: 1 layers"},
		{func(p *Problem) {
			at := placement.Trivial(2, 4, 8, 2)
			at.LayerExperts, at.PhysicalToLogical[1] = []int{4, 3}, []int{0, 1, 2, 0, 1, 2, 0, 1}
			p.Previous = &at
		}, "previous: layer 1: 3 experts, but loads have 4"},
		{func(p *Problem) {
			at := placement.Trivial(2, 4, 8, 2)
			at.PhysicalToLogical[1][3], p.Previous, p.LayerReplicas = 7, &at, []int{8, 6}
		}, "previous.physical_to_logical_map: layer 1, index 3"},
	} {
		p := Problem{Loads: placement.Loads{{1, 1, 1, 1}, {1, 1, 1, 1}}, Replicas: 8, Topology: placement.Topology{GPUs: 2}}
		c.spoil(&p)
		_, err := Plan(t.Context(), p, Options{})
		var bad *placement.Error
		if !errors.As(err, &bad) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// A layer that counts for nothing gets no moves, whichever shape it is of.
func TestShapesKeepWeights(t *testing.T) {
	p := Problem{Loads: placement.Loads{{9, 1, 1, 1}, {9, 1, 1, 1}, {9, 1, 1, 1}}, Replicas: 6, LayerReplicas: []int{4, 6, 6}, Topology: placement.Topology{GPUs: 2}, LayerWeights: []float64{1, 0, 1}}
	row := []int{0, 1, 2, 3, 1, 2}
	p.Previous = &placement.Placement{Experts: 4, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, -1, 3, 2, -1}, row, row}}
	r := mustPlan(t, p, Options{MaxMoves: 1})
	if r.Layers[1].Moves != 0 || r.Layers[2].Moves != 1 {
		t.Errorf("%+v", r.Layers)
	}
}
