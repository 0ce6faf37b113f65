package eplb

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// checkTwoNodes demands every expert on two nodes in every layer.
func checkTwoNodes(t *testing.T, p Problem, r *placement.Placement) {
	t.Helper()
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	if r.Duplicates() > 0 {
		t.Fatalf("%d experts twice on a GPU", r.Duplicates())
	}
	first := r.FirstSlots()
	for l, row := range r.PhysicalToLogical {
		nodes := make([]map[int]bool, r.Experts)
		for g := range r.GPUs {
			for _, e := range row[first[g]:first[g+1]] {
				if e < 0 {
					continue
				}
				if nodes[e] == nil {
					nodes[e] = map[int]bool{}
				}
				nodes[e][p.Topology.Node(g)] = true
				if p.Topology.SpeedOf(g) == 0 {
					t.Fatalf("layer %d: expert %d on GPU %d, out of service", l, e, g)
				}
			}
		}
		for e, n := range nodes {
			if len(n) < 2 {
				t.Fatalf("layer %d: expert %d is on %d node", l, e, len(n))
			}
		}
	}
}

// leastTwoNodes is the least level of a placement with every expert on two
// nodes, by enumeration; +Inf = there is none.
func leastTwoNodes(w []float64, t placement.Topology, slots int) float64 {
	size := placement.EvenSlots(slots, t.GPUs)
	total, speeds := 0.0, 0.0
	for _, x := range w {
		total += x
	}
	for g := range t.GPUs {
		speeds += t.SpeedOf(g)
	}
	best := math.Inf(1)
	sets := make([]uint, t.GPUs)
	var rec func(g int)
	rec = func(g int) {
		if g == t.GPUs {
			count, node, two := make([]int, len(w)), make([]int, len(w)), make([]bool, len(w))
			for g, s := range sets {
				for e := range w {
					if s>>e&1 != 0 {
						two[e] = two[e] || (count[e] > 0 && node[e] != t.Node(g))
						count[e]++
						node[e] = t.Node(g)
					}
				}
			}
			if slices.Contains(two, false) {
				return
			}
			top := 0.0
			for g, s := range sets {
				sum := 0.0
				for e, x := range w {
					if s>>e&1 != 0 {
						sum += x / float64(count[e])
					}
				}
				if sum > 0 {
					top = max(top, sum/t.SpeedOf(g))
				}
			}
			best = min(best, top)
			return
		}
		if t.SpeedOf(g) == 0 {
			sets[g] = 0
			rec(g + 1)
			return
		}
		n := min(size[g], len(w))
		for s := range uint(1) << len(w) {
			if popcount(s) == n {
				sets[g] = s
				rec(g + 1)
			}
		}
	}
	rec(0)
	if total == 0 {
		return 1
	}
	return best * speeds / total
}

func popcount(s uint) (n int) {
	for ; s != 0; s &= s - 1 {
		n++
	}
	return n
}

func TestTwoNodesAgainstEnumeration(t *testing.T) {
	const seed = 1
	tried, best, worst, price, most := 0, 0, 1.0, 0.0, 400
	if !long.Tests() {
		most = 100
	}
	for n := 0; tried < most; n++ {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		top := placement.Topology{GPUs: 2 + rng.IntN(3)}
		top.Nodes = top.GPUs
		if top.GPUs == 4 && rng.IntN(2) == 0 {
			top.Nodes = 2
		}
		if rng.IntN(3) == 0 {
			top.Speed = workload.UnlikeSpeeds(rng, top.GPUs)
		}
		experts := 2 + rng.IntN(5)
		p := Problem{Loads: placement.Loads{workload.UnlikeLoads(rng, experts)}, Replicas: 2*experts + rng.IntN(4), Topology: top}
		want := leastTwoNodes(p.Loads[0], top, p.Replicas)
		r, err := Plan(t.Context(), p, Options{TwoNodes: true})
		if err != nil {
			if !errors.Is(err, placement.ErrFit) && top.Validate() == nil {
				t.Fatal(err)
			}
			if !math.IsInf(want, 1) && top.Validate() == nil {
				t.Fatalf("seed %d/%d: %v, but there is a placement", seed, n, err)
			}
			continue
		}
		tried++
		checkTwoNodes(t, p, &r.Placement)
		got := r.Layers[0]
		if got.Imbalance < want*(1-1e-9) || got.LowerBound > want*(1+1e-9) {
			t.Fatalf("seed %d/%d: %+v, least %v: %+v", seed, n, got, want, p)
		}
		if got.Imbalance <= want*(1+1e-9) {
			best++
		} else if got.Imbalance > want*1.03 {
			t.Errorf("seed %d/%d: %v, least %v: %+v", seed, n, got.Imbalance, want, p)
		}
		worst = max(worst, got.Imbalance/want)
		free := mustPlan(t, p, Options{Locality: Free})
		price += got.Imbalance / free.Layers[0].Imbalance
	}
	t.Logf("seed %d: %d of %d the least, the worst %.4f times it; %.3f times the unconstrained", seed, best, tried, worst, price/float64(tried))
	if best*100 < tried*95 {
		t.Errorf("seed %d: only %d of %d are the least", seed, best, tried)
	}
}

// Whichever node fails, every expert lives on, and what must move is what no
// longer is on two nodes.
func TestANodeMayFail(t *testing.T) {
	loads, drift := drifted(2, 256, .1, 4)
	unit := placement.PrefillUnit()
	sizes := []int{512, 576, 768}
	if !long.Tests() {
		sizes = sizes[1:2]
	}
	for _, replicas := range sizes {
		p := Problem{Loads: loads, Replicas: replicas, Topology: unit}
		base := mustPlan(t, p, Options{TwoNodes: true})
		checkTwoNodes(t, p, &base.Placement)
		for l, x := range base.Layers {
			if replicas > 512 && x.Imbalance > max(1.01, x.LowerBound*1.01) {
				t.Errorf("%d slots, layer %d: imbalance %v, bound %v", replicas, l, x.Imbalance, x.LowerBound)
			}
		}
		p.Previous, p.Loads = &base.Placement, drift
		r := mustPlan(t, p, Options{TwoNodes: true, Target: 1.02})
		checkTwoNodes(t, p, &r.Placement)
		t.Logf("%d slots: %.1f moves a layer to follow the drift", replicas, float64(totalMoves(t, &base.Placement, &r))/2)
		for l, x := range r.Layers {
			if replicas > 512 && x.Imbalance > 1.0201 {
				t.Errorf("%d slots, layer %d: imbalance %v", replicas, l, x.Imbalance)
			}
		}
		for n := range unit.Nodes {
			p.Topology.Speed = slices.Repeat([]float64{1}, unit.GPUs)
			clear(p.Topology.Speed[8*n : 8*n+8])
			r := mustPlan(t, p, Options{Locality: Free, MaxMoves: -1})
			if k := totalMoves(t, &base.Placement, &r); k != 0 {
				t.Errorf("%d slots, without node %d: %d moves, none is needed", replicas, n, k)
			}
			r, err := Plan(t.Context(), p, Options{TwoNodes: true, MaxMoves: -1})
			if replicas < 700 {
				if !errors.Is(err, placement.ErrFit) {
					t.Errorf("%d slots, three nodes: %v", replicas, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			checkTwoNodes(t, p, &r.Placement)
			must := 0
			for _, row := range base.Placement.PhysicalToLogical {
				on := make([]uint, 256)
				for s, e := range row {
					if k := s / (replicas / 4); k != n {
						on[e] |= 1 << k
					}
				}
				for _, set := range on {
					must += max(0, 2-popcount(set))
				}
			}
			if k := totalMoves(t, &base.Placement, &r); k != must {
				t.Errorf("%d slots, without node %d: %d moves, %d are needed", replicas, n, k, must)
			}
		}
		p.Topology.Speed = nil
	}
}

// Plans on any unit, from scratch and from any placement in force, have every
// expert on two nodes; without a budget they are as even as those from scratch.
func TestTwoNodesOnAnyUnit(t *testing.T) {
	const seed = 3
	n := 400
	if !long.Tests() {
		n = 60
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	tried := 0
	for i := range n {
		p, kind := drawAny(rng, i)
		p.Topology.Nodes = p.Topology.GPUs
		for k := 2; k < p.Topology.GPUs; k++ {
			if p.Topology.GPUs%k == 0 && rng.IntN(2) == 0 {
				p.Topology.Nodes = k
			}
		}
		p.Groups = 0
		p.Replicas = 2*p.Loads.Experts() + rng.IntN(2*p.Topology.GPUs)
		o := Options{TwoNodes: true, Dispatch: Dispatch(rng.IntN(2))}
		r, err := Plan(t.Context(), p, o)
		if errors.Is(err, placement.ErrFit) {
			continue
		}
		if err != nil {
			t.Fatalf("seed %d, instance %d (%s): %v", seed, i, kind, err)
		}
		tried++
		checkTwoNodes(t, p, &r.Placement)
		// From a plan that knew nothing of nodes, or from this one after a drift.
		from := r.Placement
		o.Dispatch = Even
		if rng.IntN(2) == 0 {
			from = mustPlan(t, p, Options{Locality: Free}).Placement
		}
		for _, row := range p.Loads {
			for e := range row {
				row[e] *= math.Exp(.5 * rng.NormFloat64())
			}
		}
		if rng.IntN(3) == 0 {
			p.Topology.Speed = slices.Repeat([]float64{1}, p.Topology.GPUs)
			p.Topology.Speed[rng.IntN(p.Topology.GPUs)] = 0
		}
		fresh, err := Plan(t.Context(), p, o)
		if err != nil {
			continue
		}
		p.Previous = &from
		o.Restarts = -1
		if rng.IntN(2) == 0 {
			o.MaxMoves = rng.IntN(20) - 1
		}
		next := mustPlan(t, p, o)
		checkTwoNodes(t, p, &next.Placement)
		totalMoves(t, &from, &next)
		for l, x := range next.Layers {
			if o.MaxMoves == 0 && x.Imbalance > fresh.Layers[l].Imbalance*1.011 {
				t.Fatalf("seed %d, instance %d (%s) layer %d: imbalance %v, from scratch %v", seed, i, kind, l, x.Imbalance, fresh.Layers[l].Imbalance)
			}
			if x.LowerBound > fresh.Layers[l].Imbalance*(1+1e-9) || fresh.Layers[l].LowerBound > x.Imbalance*(1+1e-9) {
				t.Fatalf("seed %d, instance %d (%s) layer %d: bounds %v, %v above %v, %v", seed, i, kind, l, x.LowerBound, fresh.Layers[l].LowerBound, x.Imbalance, fresh.Layers[l].Imbalance)
			}
		}
	}
	if tried < n/4 {
		t.Errorf("only %d of %d units have room", tried, n)
	}
}

func TestTwoNodesRefuse(t *testing.T) {
	loads := placement.Loads{{4, 3, 2, 1}}
	dead := []float64{1, 1, 0, 0}
	for _, c := range []struct {
		want string
		p    Problem
		o    Options
	}{
		{"two_nodes: 4 experts on two nodes each do not fit the 6 slots of the 4 GPUs in service: 2 slots a GPU, 8 in all, would do", Problem{Loads: loads, Replicas: 6, Topology: placement.Topology{GPUs: 4, Nodes: 2}}, Options{}},
		{"two_nodes: 1 node in service: at least 2 are needed", Problem{Loads: loads, Replicas: 16, Topology: placement.Topology{GPUs: 4}}, Options{}},
		{"two_nodes: 1 node in service: at least 2 are needed", Problem{Loads: loads, Replicas: 16, Topology: placement.Topology{GPUs: 4, Nodes: 2, Speed: dead}}, Options{}},
		{"two_nodes: groups stay on one node each: use locality none", Problem{Loads: loads, Replicas: 8, Groups: 2, Topology: placement.Topology{GPUs: 4, Nodes: 2}}, Options{Locality: ByGroup}},
		{"two_nodes: policy deepseek knows no such thing: use policy optimal", Problem{Loads: loads, Replicas: 8, Topology: placement.Topology{GPUs: 4, Nodes: 2}}, Options{Policy: DeepSeek}},
	} {
		c.o.TwoNodes = true
		if _, err := Plan(t.Context(), c.p, c.o); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// On one node every group is at home, whatever the domains.
func TestTwoDomainsBesideGroupsOnOneNode(t *testing.T) {
	p := Problem{Loads: placement.Loads{{4, 3, 2, 1}}, Replicas: 8, Groups: 2, Topology: placement.Topology{GPUs: 4, DomainGPUs: []int{2, 2}}}
	r, err := Plan(t.Context(), p, Options{TwoDomains: true, Locality: ByGroup})
	if err != nil {
		t.Fatal(err)
	}
	row := r.Placement.PhysicalToLogical[0]
	for e := range 4 {
		if !slices.Contains(row[:4], e) || !slices.Contains(row[4:], e) {
			t.Errorf("expert %d is not in both domains: %v", e, row)
		}
	}
}

func BenchmarkTwoNodes(b *testing.B) {
	for _, c := range []struct {
		unit     placement.Topology
		replicas int
		name     string
	}{{placement.PrefillUnit(), 512, "gpus=32/slots=512"}, {placement.PrefillUnit(), 576, "gpus=32/slots=576"}, {placement.DecodeUnit(), 576, "gpus=144/slots=576"}} {
		for _, two := range []bool{false, true} {
			name := c.name + "/nodes=any"
			if two {
				name = c.name + "/nodes=2"
			}
			b.Run(name, func(b *testing.B) {
				loads := workload.Zipf(58, 256, .8, 1e6, 1)
				mean, bound := 0.0, 0.0
				for b.Loop() {
					r, err := Plan(b.Context(), Problem{Loads: loads, Replicas: c.replicas, Topology: c.unit}, Options{TwoNodes: two, Locality: Free, Workers: 1})
					if err != nil {
						b.Fatal(err)
					}
					mean, bound = 0, 0
					for _, l := range r.Layers {
						mean += l.Imbalance / 58
						bound += l.LowerBound / 58
					}
				}
				b.ReportMetric(mean, "max/mean")
				b.ReportMetric(bound, "bound")
				b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)/58, "ms/layer")
			})
		}
	}
}

// Groups that nodes could keep are not kept where experts are to be in two domains.
func TestTwoDomainsComeBeforeGroups(t *testing.T) {
	p := Problem{Loads: placement.Loads{{4, 3, 2, 1}}, Replicas: 12, Groups: 2, Topology: placement.Topology{GPUs: 4, Nodes: 2}}
	o := Options{TwoDomains: true}
	r := mustPlan(t, p, o)
	if err := constrained(&p, &o, &r); err != nil || r.Locality != nil {
		t.Error(err, r.Locality)
	}
}
