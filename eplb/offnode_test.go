package eplb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// TestOffNodeRandom plans shapes of all kinds: nodes with GPUs out of service,
// slow GPUs, slots that GPUs cannot share evenly. More replicas off their nodes
// never give a worse plan.
func TestOffNodeRandom(t *testing.T) {
	t.Parallel()
	seeds := uint64(25)
	if !long.Tests() {
		seeds = 5
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 7))
		nodes := 2 + rng.IntN(3)
		gpus := nodes * (1 + rng.IntN(5))
		groups := nodes * (1 + rng.IntN(4))
		experts := groups * (1 + rng.IntN(6))
		replicas := experts + rng.IntN(experts+gpus)
		if gpus == nodes && rng.IntN(2) == 0 {
			replicas = gpus * ((experts + gpus - 1) / gpus) * 2
		}
		topo := placement.Topology{GPUs: gpus, Nodes: nodes}
		if rng.IntN(2) == 0 {
			topo.Speed = make([]float64, gpus)
			for g := range topo.Speed {
				topo.Speed[g] = []float64{1, 1, 1, 2, .5, 0}[rng.IntN(6)]
			}
		}
		p := Problem{Loads: someLoads(rng, 3, experts), Replicas: replicas, Groups: groups, Topology: topo}
		clear(p.Loads[2]) // a layer without load
		// Where a GPU has more slots than its node has experts at home, how many
		// of them are filled depends on X, and so does the search.
		spare := replicas/gpus+1 > experts/nodes
		last := []float64{math.Inf(1), math.Inf(1), math.Inf(1)}
		for _, x := range []int{0, 1, 2, 4, 8, 16, 32} {
			o := Options{Locality: ByGroup, OffNodeReplicas: x, Workers: 1}
			r, err := Plan(context.Background(), p, o)
			if err != nil {
				if !errors.Is(err, placement.ErrFit) && topo.InService() > 0 {
					t.Fatalf("seed %d x %d: %v", seed, x, err)
				}
				if !math.IsInf(last[0], 1) {
					t.Fatalf("seed %d x %d: %v, but fewer were enough", seed, x, err)
				}
				continue
			}
			checkLocality(t, p, o, r)
			for l, y := range r.Layers {
				if !spare && y.Imbalance > last[l]*(1+2e-4) {
					t.Errorf("seed %d layer %d: %v with %d replicas off their nodes, %v with fewer: %d experts, %d groups, %d slots, %+v", seed, l, y.Imbalance, x, last[l], experts, groups, replicas, topo)
				}
				last[l] = y.Imbalance
			}
		}
	}
}

// TestOffNodeQuality holds the plans of the published prefill unit to what they
// reach: close to the node's bound without replicas off their nodes, close to
// even with 8 and 16 of them.
func TestOffNodeQuality(t *testing.T) {
	const layers = 30
	for _, c := range []struct {
		skew       float64
		x          int
		aboveBound float64 // mean of imbalance/bound
		mean       float64 // mean imbalance; 0 = whatever it is
	}{
		{.8, 0, 1.001, 0}, {.8, 8, 1.0006, 1.0006}, {.8, 16, 1.0004, 1.0004},
		{1.2, 0, 1.012, 0}, {1.2, 8, 1.007, 1.01}, {1.2, 16, 1.001, 1.001},
	} {
		p := Problem{Loads: workload.Zipf(layers, 256, c.skew, 1e6, 1), Replicas: 288, Groups: 8, Topology: placement.PrefillUnit()}
		o := Options{Locality: ByGroup, OffNodeReplicas: c.x}
		r, err := Plan(context.Background(), p, o)
		if err != nil {
			t.Fatal(err)
		}
		checkLocality(t, p, o, r)
		above, mean := 0.0, 0.0
		for _, y := range r.Layers {
			above += y.Imbalance / y.LowerBound / layers
			mean += y.Imbalance / layers
		}
		t.Logf("skew %v, %d off their nodes: %.5f, %.5f of the bound", c.skew, c.x, mean, above)
		if above > c.aboveBound || (c.mean > 0 && mean > c.mean) {
			t.Errorf("skew %v, %d off their nodes: %.5f, %.5f of the bound; %v and %v were reached", c.skew, c.x, mean, above, c.mean, c.aboveBound)
		}
	}
}

// TestOffNodeStopped demands a valid plan from a search that is stopped at once.
func TestOffNodeStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := Problem{Loads: someLoads(rand.New(rand.NewPCG(1, 1)), 2, 64), Replicas: 80, Groups: 8, Topology: placement.Topology{GPUs: 16, Nodes: 4}}
	o := Options{Locality: ByGroup, OffNodeReplicas: 8}
	r, err := Plan(ctx, p, o)
	if err != nil {
		t.Fatal(err)
	}
	checkLocality(t, p, o, r)
	for l, y := range r.Layers {
		if y.Status != Stopped {
			t.Errorf("layer %d: %v", l, y.Status)
		}
	}
}

// TestOffNodeDoesNotFit names what would fit.
func TestOffNodeDoesNotFit(t *testing.T) {
	p := Problem{Loads: placement.NewLoads(1, 16), Replicas: 24, Groups: 4, Topology: placement.Topology{GPUs: 4, Nodes: 2, Speed: []float64{0, 1, 1, 1}}}
	_, err := Plan(context.Background(), p, Options{Locality: ByGroup, OffNodeReplicas: 1})
	const want = "off_node_replicas: groups of 8 experts do not fit the 6 slots in service of node 0: 2 replicas off their node would do, or locality none"
	if !errors.Is(err, placement.ErrFit) || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	p.Loads[0][3] = 5
	o := Options{Locality: ByGroup, OffNodeReplicas: 2}
	r, err := Plan(context.Background(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	checkLocality(t, p, o, r)
}

// Slots that groups leave empty on their nodes are no reason to move what is in others:
// a budget holds beside them.
func TestBudgetBesideEmptySlots(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 41))
		p := Problem{Loads: someLoads(rng, 1, 8), Replicas: 8 * (5 + rng.IntN(3)), Groups: 4, Topology: placement.Topology{GPUs: 8, Nodes: 2}}
		o := Options{Locality: ByGroup, MaxMoves: 2, Workers: 1}
		before := mustPlan(t, p, Options{Locality: ByGroup})
		p.Loads, p.Previous = someLoads(rng, 1, 8), &before.Placement
		r := mustPlan(t, p, o)
		checkLocality(t, p, o, r)
		if n := r.Layers[0].Moves; n > o.MaxMoves {
			t.Errorf("seed %d: %d moves", seed, n)
		}
	}
}

// Where groups leave room on their nodes, slots stay empty: moves are saved beside them.
func TestMovesBesideEmptySlots(t *testing.T) {
	p := Problem{
		Loads: placement.Loads{{3, 0, 1, 3}, {0, 3, 2, 3}}, Replicas: 12, Groups: 4,
		Topology: placement.Topology{GPUs: 4, Nodes: 2, Speed: []float64{1, 0, 0, 1}},
		Previous: &placement.Placement{Experts: 4, GPUs: 4, GPUSlots: []int{4, 4, 4, 3}, PhysicalToLogical: [][]int{
			{3, 2, -1, -1, 3, 2, -1, -1, 0, 1, -1, -1, 0, 1, -1},
			{2, 0, -1, -1, 2, 0, -1, -1, 3, 1, -1, -1, 3, 1, -1},
		}},
	}
	for _, moves := range []int{0, 5} {
		for _, off := range []int{0, 2} {
			o := Options{Locality: ByGroup, OffNodeReplicas: off, MaxMoves: moves, Tolerance: -1, Workers: 1}
			r := mustPlan(t, p, o)
			checkLocality(t, p, o, r)
		}
	}
}

// However a layer is planned, no more replicas are off their group's node than may be: over
// windows, from a placement in force, and within a budget of moves.
func TestOffNodeBudgetHolds(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 47))
		p := Problem{Loads: someLoads(rng, 1, 32), Replicas: 40 + 8*rng.IntN(3), Groups: 8, Topology: placement.Topology{GPUs: 8, Nodes: 4}}
		o := Options{Locality: ByGroup, OffNodeReplicas: rng.IntN(4), Workers: 1}
		before := mustPlan(t, p, o)
		p.Loads, p.Windows = nil, []placement.Loads{someLoads(rng, 1, 32), someLoads(rng, 1, 32), someLoads(rng, 1, 32)}
		checkHomes(t, fmt.Sprintf("seed %d, windows", seed), p, o, mustPlan(t, p, o))
		p.Previous = &before.Placement
		for _, o.MaxMoves = range []int{0, 3, 12} {
			checkHomes(t, fmt.Sprintf("seed %d, windows and %d moves", seed, o.MaxMoves), p, o, mustPlan(t, p, o))
		}
		p.Loads, p.Windows = p.Windows[0], nil
		for _, o.MaxMoves = range []int{0, 3, 12} {
			checkHomes(t, fmt.Sprintf("seed %d, %d moves", seed, o.MaxMoves), p, o, mustPlan(t, p, o))
		}
	}
}
