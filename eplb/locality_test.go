package eplb

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// awayFewest counts, for one layer, the replicas outside their group's node
// under the choice of homes that leaves fewest, by trying all.
func awayFewest(row []int, first []int, nodes, groups, experts int) int {
	per, gpus := experts/groups, len(first)-1
	on := make([][]int, groups) // replicas of each group on each node
	for g := range on {
		on[g] = make([]int, nodes)
	}
	all := 0
	for g := range gpus {
		for _, e := range row[first[g]:first[g+1]] {
			if e >= 0 {
				on[e/per][g/(gpus/nodes)]++
				all++
			}
		}
	}
	used := make([]int, nodes)
	best := 0
	var assign func(g, home int)
	assign = func(g, home int) {
		if g == groups {
			best = max(best, home)
			return
		}
		for n := range nodes {
			if used[n] < groups/nodes {
				used[n]++
				assign(g+1, home+on[g][n])
				used[n]--
			}
		}
	}
	assign(0, 0)
	return all - best
}

// checkLocality demands that a plan is valid, keeps to its slots and homes, and
// that its report is what the placement says.
func checkLocality(t *testing.T, p Problem, o Options, r Result) {
	t.Helper()
	if err := r.Placement.Validate(); err != nil {
		t.Fatalf("invalid: %v", err)
	}
	scores, err := r.Placement.ScoreLayers(p.Loads, p.Topology)
	if err != nil {
		t.Fatalf("score: %v", err)
	}
	experts, nodes, groups := p.Loads.Experts(), p.Topology.NodeCount(), max(p.Groups, 1)
	first := r.Placement.FirstSlots()
	count := r.Placement.LogicalCount()
	for l, row := range r.Placement.PhysicalToLogical {
		y := r.Layers[l]
		if total(p.Loads[l]) > 0 && math.Abs(scores[l].Imbalance-y.Imbalance) > 1e-9*y.Imbalance {
			t.Fatalf("layer %d: reported %v, scored %v", l, y.Imbalance, scores[l].Imbalance)
		}
		if y.LowerBound > y.Imbalance || y.LowerBound < 1-1e-9 {
			t.Fatalf("layer %d: bound %v, imbalance %v", l, y.LowerBound, y.Imbalance)
		}
		if (y.Status == Proved) && y.LowerBound < y.Imbalance*(1-1e-8) {
			t.Fatalf("layer %d: called optimal at %v with bound %v", l, y.Imbalance, y.LowerBound)
		}
		if r.Locality.FreeImbalance[l] > y.Imbalance*(1+1e-12) {
			t.Fatalf("layer %d: %v with locality, %v without", l, y.Imbalance, r.Locality.FreeImbalance[l])
		}
		away, share := 0, 0.0
		homes := make([]int, nodes)
		for _, n := range r.Locality.Home[l] {
			homes[n]++
		}
		for n, k := range homes {
			if k != groups/nodes {
				t.Fatalf("layer %d: node %d is home of %d groups", l, n, k)
			}
		}
		for g := range p.Topology.GPUs {
			seen := map[int]bool{}
			for _, e := range row[first[g]:first[g+1]] {
				if e < 0 {
					continue
				}
				if seen[e] {
					t.Fatalf("layer %d: expert %d twice on GPU %d", l, e, g)
				}
				seen[e] = true
				if r.Locality.Home[l][e/(experts/groups)] != p.Topology.Node(g) {
					away++
					share += p.Loads[l][e] / float64(count[l][e])
				}
			}
		}
		if away != r.Locality.OffNodeReplicas[l] || away > o.OffNodeReplicas {
			t.Fatalf("layer %d: %d replicas off their node, reported %d, allowed %d: %v home %v in %+v", l, away, r.Locality.OffNodeReplicas[l], o.OffNodeReplicas, row, r.Locality.Home[l], p)
		}
		if x := total(p.Loads[l]); x > 0 && math.Abs(share/x-r.Locality.OffNodeShare[l]) > 1e-9 {
			t.Fatalf("layer %d: share %v off its node, reported %v", l, share/x, r.Locality.OffNodeShare[l])
		}
	}
}

// bestAway returns the least imbalance with at most x replicas off their nodes,
// for every x up to most, by trying every placement without an expert twice on
// a GPU; only slots that its node's
// experts could not fill may stay empty.
func bestAway(loads []float64, topo placement.Topology, slots []int, groups, most int) []float64 {
	experts, gpus := len(loads), topo.GPUs
	best := make([]float64, most+1)
	for i := range best {
		best[i] = math.Inf(1)
	}
	first := make([]int, gpus+1)
	for g, n := range slots {
		first[g+1] = first[g] + n
	}
	row := make([]int, first[gpus])
	count := make([]int, experts)
	speeds := 0.0
	for g := range gpus {
		speeds += topo.SpeedOf(g)
	}
	mean := total(loads) / speeds
	atHome := experts / topo.NodeCount()
	var fill func(g, slot, from int)
	fill = func(g, slot, from int) {
		if g == gpus {
			if slices.Contains(count, 0) {
				return
			}
			level := 0.0
			for g := range gpus {
				if topo.SpeedOf(g) == 0 {
					continue
				}
				sum := 0.0
				for _, e := range row[first[g]:first[g+1]] {
					if e >= 0 {
						sum += loads[e] / float64(count[e])
					}
				}
				level = max(level, sum/topo.SpeedOf(g)/mean)
			}
			if level >= best[0] {
				return
			}
			away := awayFewest(row, first, topo.NodeCount(), groups, experts)
			for x := away; x <= most; x++ {
				best[x] = min(best[x], level)
			}
			return
		}
		if topo.SpeedOf(g) > 0 && slot < first[g+1] {
			for e := from; e < experts; e++ {
				row[slot] = e
				count[e]++
				fill(g, slot+1, e+1)
				count[e]--
			}
		}
		if topo.SpeedOf(g) > 0 && first[g+1]-slot > max(0, slots[g]-atHome) {
			return
		}
		// The other slots of this GPU stay empty.
		for s := slot; s < first[g+1]; s++ {
			row[s] = -1
		}
		fill(g+1, first[g+1], 0)
	}
	fill(0, 0, 0)
	return best
}

// TestLocalityOracle compares tiny layers with exhaustive search.
func TestLocalityOracle(t *testing.T) {
	type shape struct{ nodes, gpus, experts, groups, replicas, dead int }
	shapes := []shape{
		{2, 2, 4, 2, 4, 0}, {2, 2, 4, 4, 5, 0}, {2, 4, 4, 2, 6, 0}, {2, 4, 4, 2, 8, 0}, {2, 4, 4, 4, 7, 0},
		{2, 4, 6, 2, 8, 0}, {2, 2, 6, 2, 8, 0}, {2, 4, 6, 2, 9, 1}, {2, 2, 8, 4, 10, 0}, {3, 3, 6, 3, 8, 0},
		{2, 6, 4, 2, 8, 1}, {2, 2, 8, 4, 9, 0},
	}
	const most = 3
	cases, optimal, worst, proved := 0, 0, 1.0, 0
	for seed := range uint64(20) {
		for i, s := range shapes {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			loads := make([]float64, s.experts)
			for e := range loads {
				loads[e] = math.Round(math.Exp(rng.NormFloat64()*(.3+1.2*rng.Float64()))*1000) / 10
			}
			topo := placement.Topology{GPUs: s.gpus, Nodes: s.nodes}
			if s.dead > 0 || seed%3 == 2 {
				topo.Speed = make([]float64, s.gpus)
				for g := range topo.Speed {
					topo.Speed[g] = 1
					if seed%3 == 2 {
						topo.Speed[g] = []float64{1, 1.5, .7}[rng.IntN(3)]
					}
				}
				for range s.dead {
					topo.Speed[rng.IntN(s.gpus)] = 0
				}
			}
			slots := placement.EvenSlots(s.replicas, s.gpus)
			want := bestAway(loads, topo, slots, s.groups, most)
			p := Problem{Loads: placement.Loads{loads}, Replicas: s.replicas, Groups: s.groups, Topology: topo}
			for x := range most + 1 {
				o := Options{Locality: ByGroup, OffNodeReplicas: x, Tolerance: -1, Workers: 1}
				r, err := Plan(context.Background(), p, o)
				if math.IsInf(want[x], 1) {
					if !errors.Is(err, placement.ErrFit) {
						t.Fatalf("seed %d shape %v x %d: no placement exists, got %v", seed, s, x, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("seed %d shape %v x %d: %v", seed, s, x, err)
				}
				checkLocality(t, p, o, r)
				y := r.Layers[0]
				if y.LowerBound > want[x]*(1+1e-9) {
					t.Fatalf("seed %d shape %v x %d: bound %v above the optimum %v, loads %v speed %v", seed, s, x, y.LowerBound, want[x], loads, topo.Speed)
				}
				ratio := y.Imbalance / want[x]
				if ratio < 1-1e-9 {
					t.Fatalf("seed %d shape %v x %d: %v is better than the optimum %v: %v home %v, loads %v", seed, s, x, y.Imbalance, want[x], r.Placement.PhysicalToLogical, r.Locality.Home, loads)
				}
				if y.Status == Proved {
					proved++
				}
				cases++
				if ratio < 1+1e-9 {
					optimal++
				} else {
					t.Logf("seed %d shape %v x %d: %v, optimum %v, loads %v speed %v", seed, s, x, y.Imbalance, want[x], loads, topo.Speed)
				}
				worst = max(worst, ratio)
			}
		}
	}
	t.Logf("%d of %d optimal, %d proved, worst %.4f", optimal, cases, proved, worst)
	if float64(optimal) < .98*float64(cases) || worst > 1.01 {
		t.Errorf("%d of %d optimal, worst %.4f", optimal, cases, worst)
	}
}

// someLoads returns loads of layers that are skewed by various degrees.
func someLoads(rng *rand.Rand, layers, experts int) placement.Loads {
	l := placement.NewLoads(layers, experts)
	for i := range l {
		skew := .3 + 1.7*rng.Float64()
		for e := range l[i] {
			l[i][e] = math.Exp(rng.NormFloat64() * skew)
		}
	}
	return l
}

// TestLocalityInvariant demands the same levels for groups in another order, for
// loads scaled by a power of two, beside a layer without load, and the same plan
// for any number of workers.
func TestLocalityInvariant(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	const groups, per = 8, 16
	p := Problem{Loads: someLoads(rng, 4, groups*per), Replicas: 160, Groups: groups, Topology: placement.H800(4)}
	for _, x := range []int{0, 6} {
		o := Options{Locality: ByGroup, OffNodeReplicas: x, Workers: 1}
		r, err := Plan(context.Background(), p, o)
		if err != nil {
			t.Fatal(err)
		}
		checkLocality(t, p, o, r)
		q := p
		q.Loads = placement.NewLoads(len(p.Loads)+1, groups*per)
		turn := rng.Perm(groups)
		for l, row := range p.Loads {
			for g, to := range turn {
				for i := range per {
					q.Loads[l][to*per+i] = 4 * row[g*per+i]
				}
			}
		}
		o.Workers = 3
		r2, err := Plan(context.Background(), q, o)
		if err != nil {
			t.Fatal(err)
		}
		checkLocality(t, q, o, r2)
		for l, y := range r.Layers {
			if y2 := r2.Layers[l]; math.Abs(y2.Imbalance-y.Imbalance) > 3e-3*y.Imbalance || math.Abs(y2.LowerBound-y.LowerBound) > 1e-5 {
				t.Errorf("x %d layer %d: %v, groups turned %v", x, l, y, y2)
			}
		}
		if y := r2.Layers[len(p.Loads)]; y.Imbalance != 1 || y.Status != Proved {
			t.Errorf("a layer without load: %v", y)
		}
		r3, err := Plan(context.Background(), p, o)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r, r3) {
			t.Errorf("x %d: other workers, other plan", x)
		}
	}
}

// TestLocalityEven demands that a layer without load gives no expert two copies
// more than another of its node.
func TestLocalityEven(t *testing.T) {
	p := Problem{Loads: placement.NewLoads(1, 64), Replicas: 96, Groups: 8, Topology: placement.Topology{GPUs: 8, Nodes: 2}}
	o := Options{Locality: ByGroup, OffNodeReplicas: 4}
	r, err := Plan(context.Background(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	checkLocality(t, p, o, r)
	c := r.Placement.LogicalCount()[0]
	if slices.Max(c)-slices.Min(c) > 1 || r.Locality.OffNodeReplicas[0] != 0 {
		t.Errorf("counts %v, %d off their nodes", c, r.Locality.OffNodeReplicas[0])
	}
}
