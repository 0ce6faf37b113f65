package eplb

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
)

// topicRoutes are tokens that belong to one of some topics each of which prefers
// experts of its own.
func topicRoutes(seed uint64, layers, experts, k, tokens, topics int) *placement.Routes {
	rng := rand.New(rand.NewPCG(seed, 5))
	r := &placement.Routes{TopK: k}
	for range layers {
		sums := make([][]float64, topics)
		for t := range sums {
			sum := 0.0
			for range experts {
				sum += math.Exp(2 * rng.NormFloat64())
				sums[t] = append(sums[t], sum)
			}
		}
		ids := make([]uint16, 0, tokens*k)
		for range tokens {
			c := sums[min(rng.IntN(topics), rng.IntN(topics))]
			for n := len(ids); len(ids) < n+k; {
				e, _ := slices.BinarySearch(c, rng.Float64()*c[experts-1])
				if !slices.Contains(ids[n:], uint16(e)) {
					ids = append(ids, uint16(e))
				}
			}
		}
		r.IDs = append(r.IDs, ids)
	}
	return r
}

// visitsOf is the mean nodes a token, by trying all sets of nodes.
func visitsOf(p *placement.Placement, t placement.Topology, r *placement.Routes, l int) float64 {
	on := make([]uint, p.Experts)
	first := p.FirstSlots()
	for g := range p.GPUs {
		for _, e := range p.PhysicalToLogical[l][first[g]:first[g+1]] {
			if e >= 0 {
				on[e] |= 1 << t.Node(g)
			}
		}
	}
	sum := 0
	for i := range r.Tokens(l) {
		best := 99
		for set := range uint(1) << t.NodeCount() {
			ok := true
			for _, e := range r.Token(l, i) {
				ok = ok && on[e]&set != 0
			}
			if ok {
				best = min(best, bits.OnesCount(set))
			}
		}
		sum += best
	}
	return float64(sum) / float64(r.Tokens(l))
}

// checkTraffic demands that a plan's own figures are true and its slack kept.
func checkTraffic(t *testing.T, name string, p Problem, o Options, r, plain Result) (gain float64) {
	t.Helper()
	if err := r.Placement.Validate(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if n := r.Placement.Duplicates(); n > plain.Placement.Duplicates() {
		t.Errorf("%s: %d duplicates, %d without routes", name, n, plain.Placement.Duplicates())
	}
	slack := o.TrafficSlack
	if slack == 0 {
		slack = .02
	}
	for l, y := range r.Layers {
		if want := visitsOf(&r.Placement, p.Topology, p.Routes, l); math.Abs(y.NodesPerToken-want) > 1e-9 {
			t.Errorf("%s, layer %d: says %v nodes a token, counted %v", name, l, y.NodesPerToken, want)
		}
		if x := r.Traffic.LowerBound[l]; !(x >= 1 && x <= y.NodesPerToken) {
			t.Errorf("%s, layer %d: bound %v, %v nodes a token", name, l, x, y.NodesPerToken)
		}
		want := visitsOf(&plain.Placement, p.Topology, p.Routes, l)
		if math.Abs(r.Traffic.Even[l].Nodes-want) > 1e-9 || r.Traffic.EvenImbalance[l] != plain.Layers[l].Imbalance {
			t.Errorf("%s, layer %d: says %v nodes at %v without routes, counted %v at %v", name, l, r.Traffic.Even[l].Nodes, r.Traffic.EvenImbalance[l], want, plain.Layers[l].Imbalance)
		}
		if y.Imbalance > plain.Layers[l].Imbalance*(1+max(slack, 0))+1e-9 || y.LowerBound > y.Imbalance {
			t.Errorf("%s, layer %d: imbalance %v (bound %v), %v without routes", name, l, y.Imbalance, y.LowerBound, plain.Layers[l].Imbalance)
		}
		if y.NodesPerToken > want+1e-9 {
			t.Errorf("%s, layer %d: %v nodes a token, %v without routes", name, l, y.NodesPerToken, want)
		}
		gain += (want - y.NodesPerToken) / want / float64(len(r.Layers))
	}
	if r.Locality != nil {
		checkHomes(t, name, p, o, r)
	}
	if o.Dispatch == Even && p.Windows == nil {
		scores, err := r.Placement.ScoreLayers(p.Loads, p.Topology)
		if err != nil {
			t.Fatal(err)
		}
		for l, s := range scores {
			if math.Abs(s.Imbalance-r.Layers[l].Imbalance) > 1e-9 {
				t.Errorf("%s, layer %d: says imbalance %v, scored %v", name, l, r.Layers[l].Imbalance, s.Imbalance)
			}
		}
	}
	return gain
}

// checkHomes counts the replicas off their group's node, and demands that they are told
// and are no more than may be.
func checkHomes(t *testing.T, name string, p Problem, o Options, r Result) {
	t.Helper()
	first := r.Placement.FirstSlots()
	for l, row := range r.Placement.PhysicalToLogical {
		off, member := 0, make([]int, r.Placement.Experts)
		for e := range member {
			member[e] = -1
			if !slices.Contains(p.Everywhere, e) {
				member[e] = 0
			}
		}
		n := 0
		for e := range member {
			if member[e] == 0 {
				member[e] = n
				n++
			}
		}
		for g := range p.Topology.GPUs {
			for _, e := range row[first[g]:first[g+1]] {
				if e >= 0 && member[e] >= 0 && r.Locality.Home[l][member[e]*p.Groups/n] != p.Topology.Node(g) {
					off++
				}
			}
		}
		if off > o.OffNodeReplicas || off != r.Locality.OffNodeReplicas[l] {
			t.Errorf("%s, layer %d: %d replicas off their group's node, says %d, %d are possible", name, l, off, r.Locality.OffNodeReplicas[l], o.OffNodeReplicas)
		}
	}
}

func TestRoutesCombineWithEverything(t *testing.T) {
	const layers, experts, k = 4, 48, 4
	routes := topicRoutes(1, layers, experts, k, 300, 5)
	loads := routes.Loads(experts)
	base := Problem{Loads: loads, Replicas: 64, Topology: placement.Topology{GPUs: 16, Nodes: 4}, Routes: routes}
	plan := func(name string, p Problem, o Options) Result {
		t.Helper()
		r, err := Plan(context.Background(), p, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	beforeAll := func(p *Problem) { // an expert that is everywhere comes first
		p.Loads, p.Routes = nil, &placement.Routes{TopK: k}
		p.Replicas, p.Everywhere = 80, []int{0}
		for l, ids := range routes.IDs {
			p.Loads = append(p.Loads, append([]float64{900}, loads[l]...))
			later := slices.Clone(ids)
			for i := range later {
				later[i]++
			}
			p.Routes.IDs = append(p.Routes.IDs, later)
		}
	}
	old := plan("old", Problem{Loads: topicRoutes(2, layers, experts, k, 700, 5).Loads(experts), Replicas: 64, Topology: base.Topology}, Options{}).Placement
	for _, c := range []struct {
		name string
		gain float64
		set  func(p *Problem, o *Options)
	}{
		{"plain", .15, func(p *Problem, o *Options) {}},
		{"no slack", 0, func(p *Problem, o *Options) { o.TrafficSlack = -1 }},
		{"speeds and a dead GPU", .1, func(p *Problem, o *Options) {
			p.Replicas = 80
			p.Topology.Speed = []float64{1, 1, 1, 1, 1, .5, 1, 1, 0, 1, 1, 1, 1, 1, 1, 2}
		}},
		{"a dead node", .1, func(p *Problem, o *Options) {
			p.Replicas = 80
			p.Topology.Speed = []float64{1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}
		}},
		{"uneven slots", .15, func(p *Problem, o *Options) { p.Replicas = 67 }},
		{"uneven nodes", .1, func(p *Problem, o *Options) {
			p.Topology.Nodes, p.Topology.NodeGPUs = 0, []int{6, 4, 4, 2}
		}},
		{"two nodes", .02, func(p *Problem, o *Options) { p.Replicas, o.TwoNodes = 128, true }},
		{"two domains", .02, func(p *Problem, o *Options) {
			p.Replicas, o.TwoDomains, p.Topology.DomainGPUs = 128, true, []int{2, 2, 2, 2, 2, 2, 2, 2}
		}},
		{"everywhere", .1, func(p *Problem, o *Options) {
			p.Replicas, p.Everywhere, p.Loads = 80, []int{experts}, nil
			for _, row := range loads {
				p.Loads = append(p.Loads, append(slices.Clone(row), 900))
			}
		}},
		{"windows", .05, func(p *Problem, o *Options) {
			third := func(i int) placement.Loads {
				part := &placement.Routes{TopK: k}
				for _, ids := range routes.IDs {
					part.IDs = append(part.IDs, ids[i*100*k:(i+1)*100*k])
				}
				return part.Loads(experts)
			}
			p.Loads, p.Windows = nil, []placement.Loads{third(0), third(1), third(2)}
		}},
		{"groups", 0, func(p *Problem, o *Options) { p.Groups, o.Locality = 8, ByGroup }},
		{"groups and off-node replicas", 0, func(p *Problem, o *Options) { p.Groups, o.Locality, o.OffNodeReplicas = 8, ByGroup, 10 }},
		{"groups beside an expert everywhere", 0, func(p *Problem, o *Options) {
			beforeAll(p)
			p.Groups, o.Locality = 8, ByGroup
		}},
		{"off-node replicas beside an expert everywhere", .09, func(p *Problem, o *Options) {
			beforeAll(p)
			p.Groups, o.Locality, o.OffNodeReplicas = 8, ByGroup, 10
		}},
		{"split", .1, func(p *Problem, o *Options) { o.Dispatch = Split }},
		{"previous", .05, func(p *Problem, o *Options) { p.Previous = &old }},
		{"previous and few moves", .01, func(p *Problem, o *Options) { p.Previous, o.MaxMoves = &old, 120 }},
		{"previous and no move", 0, func(p *Problem, o *Options) { p.Previous, o.MaxMoves = &old, -1 }},
		{"previous and target", .01, func(p *Problem, o *Options) { p.Previous, o.Target = &old, 1.1 }},
	} {
		p, o := base, Options{}
		c.set(&p, &o)
		r := plan(c.name, p, o)
		bare := p
		bare.Routes = nil
		po := o
		po.TrafficSlack = 0
		plain := plan(c.name, bare, po)
		gain := checkTraffic(t, c.name, p, o, r, plain)
		t.Logf("%s: %.4f fewer nodes a token", c.name, gain)
		if gain < c.gain {
			t.Errorf("%s: %.3f fewer nodes a token, want %.3f", c.name, gain, c.gain)
		}
		o.Workers = 1
		if again := plan(c.name, p, o); !sameResult(again, r) {
			t.Errorf("%s: another plan with one worker", c.name)
		}
		if p.Previous == nil {
			continue
		}
		moves := 0
		for l, y := range r.Layers {
			want := 0
			for s, e := range r.Placement.PhysicalToLogical[l] {
				if g := s / 4; !slices.Contains(old.PhysicalToLogical[l][g*4:g*4+4], e) {
					want++
				} else if i := slices.Index(old.PhysicalToLogical[l][g*4:g*4+4], e); g*4+i != s {
					t.Errorf("%s: layer %d: slot %d holds %d, which was in slot %d of the same GPU", c.name, l, s, e, g*4+i)
				}
			}
			if y.Moves != want || r.Traffic.Moves[l] != want-plain.Layers[l].Moves {
				t.Errorf("%s: layer %d: %d moves, %d of them for traffic; counted %d, %d without routes", c.name, l, y.Moves, r.Traffic.Moves[l], want, plain.Layers[l].Moves)
			}
			if x := visitsOf(&old, p.Topology, routes, l); math.Abs(x-r.Traffic.Previous[l].Nodes) > 1e-9 {
				t.Errorf("%s: layer %d: says %v nodes a token before, counted %v", c.name, l, r.Traffic.Previous[l].Nodes, x)
			}
			moves += want
		}
		if o.MaxMoves > 0 && moves > o.MaxMoves || o.MaxMoves < 0 && moves > 0 {
			t.Errorf("%s: %d moves", c.name, moves)
		}
	}
}

// What routes gain beside groups on their nodes hangs on the plan without them: in two
// layers of five it is nothing, in others a fifth of the nodes.
func TestRoutesGainBesideGroups(t *testing.T) {
	const draws = 10
	p := Problem{Replicas: 64, Groups: 8, Topology: placement.Topology{GPUs: 16, Nodes: 4}}
	o := Options{Locality: ByGroup, OffNodeReplicas: 10}
	gain := 0.0
	for seed := range uint64(draws) {
		routes := topicRoutes(40+seed, 2, 48, 4, 300, 5)
		p.Loads, p.Routes = routes.Loads(48), nil
		plain := mustPlan(t, p, o)
		p.Routes = routes
		gain += checkTraffic(t, fmt.Sprint("routes ", seed), p, o, mustPlan(t, p, o), plain) / draws
	}
	if t.Logf("%.4f fewer nodes a token", gain); gain < .05 {
		t.Errorf("%.3f fewer nodes a token, want .05", gain)
	}
}

func TestRoutesRefused(t *testing.T) {
	loads := placement.Loads{{4, 3, 2, 1}}
	good := func() (Problem, Options) {
		return Problem{Loads: loads, Replicas: 6, Topology: placement.Topology{GPUs: 2, Nodes: 2}, Routes: &placement.Routes{TopK: 2, IDs: [][]uint16{{0, 1, 2, 3}}}}, Options{}
	}
	if p, o := good(); true {
		if _, err := Plan(context.Background(), p, o); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		want string
		set  func(p *Problem, o *Options)
	}{
		{"traffic_slack: NaN: a finite number", func(p *Problem, o *Options) { o.TrafficSlack = math.NaN() }},
		{"traffic_slack: without routes", func(p *Problem, o *Options) { o.TrafficSlack, p.Routes = .1, nil }},
		{"routes: policy deepseek", func(p *Problem, o *Options) { o.Policy = DeepSeek }},
		{"routes: num_nodes is 1", func(p *Problem, o *Options) { p.Topology.Nodes = 1 }},
		{"routes: 65 nodes", func(p *Problem, o *Options) { p.Topology.GPUs, p.Topology.Nodes, p.Replicas = 65, 65, 65 }},
		{"routes: 2 layers, but loads have 1", func(p *Problem, o *Options) { p.Routes.IDs = append(p.Routes.IDs, nil) }},
		{"routes: 0 experts a token", func(p *Problem, o *Options) { p.Routes.TopK = 0 }},
		{"routes: 33 experts a token", func(p *Problem, o *Options) { p.Routes.TopK = 33 }},
		{"routes: layer 0: 3 ids are not", func(p *Problem, o *Options) { p.Routes.IDs[0] = p.Routes.IDs[0][:3] }},
		{"routes: layer 0, index 1: expert 4: there are 4", func(p *Problem, o *Options) { p.Routes.IDs[0][2] = 4 }},
		{"routes: layer 0, index 1: expert 2 twice", func(p *Problem, o *Options) { p.Routes.IDs[0][3] = 2 }},
	} {
		p, o := good()
		c.set(&p, &o)
		if _, err := Plan(context.Background(), p, o); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestHeldOutTokensAreNotPlannedWith(t *testing.T) {
	r := topicRoutes(4, 1, 16, 2, 2*sampled, 3)
	_, s, _ := sample(r, 0)
	if s.Len() != sampled {
		t.Fatalf("%d tokens of %d, want %d", s.Len(), r.Tokens(0), sampled)
	}
	// Mark the held out by an expert of their own.
	for i := range r.Tokens(0) {
		r.Token(0, i)[0] = 16
		if i%heldOut == heldOut-1 {
			r.Token(0, i)[0] = 17
		}
	}
	if _, s, held := sample(r, 0); len(held.IDs) == 0 || slices.Contains(s.IDs, 17) || slices.Contains(held.IDs, 16) {
		t.Error("held-out tokens in the sample")
	}
	r.IDs[0] = r.IDs[0][:2*(leastHeld-1)]
	if _, s, held := sample(r, 0); s.Len() != leastHeld-1 || held.Len() > 0 {
		t.Errorf("%d tokens of %d in the sample", s.Len(), leastHeld-1)
	}
}

// Of the ways to share groups by nodes that are even enough, the one of fewest nodes
// is taken: not that of fewest at all, which puts both hot groups on one node, and not
// the most even.
func TestGroupsAreSharedForTokens(t *testing.T) {
	loads := placement.NewLoads(1, 16)
	for e := range 16 {
		loads[0][e] = []float64{10, 9.9, 5.1, 5}[e/4]
	}
	r := &placement.Routes{TopK: 2, IDs: make([][]uint16, 1)}
	for _, c := range []struct{ a, b, tokens int }{{0, 1, 60}, {0, 2, 20}, {1, 3, 20}, {0, 3, 5}} {
		for i := range c.tokens {
			r.IDs[0] = append(r.IDs[0], uint16(4*c.a+i%4), uint16(4*c.b+i/4%4))
		}
	}
	p := Problem{Loads: loads, Replicas: 20, Groups: 4, Topology: placement.Topology{GPUs: 4, Nodes: 2}, Routes: r}
	got, err := Plan(t.Context(), p, Options{TrafficSlack: .03})
	if err != nil {
		t.Fatal(err)
	}
	y, about := got.Layers[0], got.Traffic
	if home := got.Locality.Home[0]; home[0] != home[2] || home[1] != home[3] || home[0] == home[1] {
		t.Errorf("groups are on nodes %v", home)
	}
	if math.Abs(y.NodesPerToken-170./105) > 1e-9 || math.Abs(about.Even[0].Nodes-205./105) > 1e-9 || math.Abs(about.LowerBound[0]-150./105) > 1e-9 {
		t.Errorf("%v nodes a token, %v without routes, bound %v", y.NodesPerToken, about.Even[0].Nodes, about.LowerBound)
	}
	if y.Imbalance > 1.03*about.EvenImbalance[0]+1e-9 {
		t.Errorf("imbalance %v, without routes %v", y.Imbalance, about.EvenImbalance)
	}
	// Without room for it nothing changes.
	if got, err = Plan(t.Context(), p, Options{TrafficSlack: -1}); err != nil || got.Layers[0].Imbalance > got.Traffic.EvenImbalance[0]+1e-12 {
		t.Errorf("%+v, %v", got.Layers[0], err)
	}
}

// A plan that was changed for traffic may be more even than the one before it: groups
// cost no less than nothing.
func TestRoutesKeepThePriceOfGroups(t *testing.T) {
	p := Problem{
		Windows: []placement.Loads{
			{{0, 642, 0, 0, 764, 0, 0, 0, 0, 168, 917, 665, 356, 555}},
			{{888, 873, 0, 0, 0, 0, 650, 904, 0, 911, 917, 0, 0, 400}},
		},
		Replicas: 24, Groups: 6, Topology: placement.Topology{GPUs: 4, Nodes: 2}, Everywhere: []int{13, 0},
		Previous: &placement.Placement{Experts: 14, GPUs: 4, PhysicalToLogical: [][]int{
			{0, 13, 6, 3, 4, 5, 0, 13, 6, 3, 9, 10, 0, 13, 11, 2, 1, 12, 0, 13, 7, 2, 1, 8},
		}},
		Routes: &placement.Routes{TopK: 3, IDs: [][]uint16{{10, 6, 7, 0, 5, 12, 10, 0, 4, 12, 4, 5, 3, 1, 2, 2, 11, 10, 13, 9, 6}}},
	}
	o := Options{Locality: ByGroup, Dispatch: Split, Target: 1.4539124553396232, Workers: 1}
	r := mustPlan(t, p, o)
	if free, y := r.Locality.FreeImbalance[0], r.Layers[0]; free > y.Imbalance {
		t.Errorf("without groups %v, with them %v", free, y.Imbalance)
	}
}

// A layer without load is even whatever it holds: its plan is free for its tokens.
func TestRegroupWithoutLoad(t *testing.T) {
	p := Problem{Loads: placement.NewLoads(1, 32), Replicas: 40, Topology: placement.Topology{GPUs: 8, Nodes: 4}, Routes: topicRoutes(1, 1, 32, 4, 600, 5)}
	var nodes [2]float64
	for i := range nodes { // without load, and with loads that must stay as even as they are
		r, err := Plan(t.Context(), p, Options{Locality: Free, TrafficSlack: -1})
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = r.Layers[0].NodesPerToken
		for e := range p.Loads[0] {
			p.Loads[0][e] = 1
		}
	}
	if nodes[0] >= nodes[1] {
		t.Errorf("%v nodes a token without load, %v with", nodes[0], nodes[1])
	}
}

// sameResult says whether two results are the same, where NaN is itself.
func sameResult(a, b Result) bool {
	text := func(r *Result) string { return fmt.Sprint(r.Placement, r.Layers, *cmp.Or(r.Traffic, &Traffic{})) }
	return text(&a) == text(&b) && reflect.DeepEqual(a.Locality, b.Locality)
}
