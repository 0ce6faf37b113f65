package eplb

import (
	"github.com/moelb/moelb/eplb/internal/traffic"
	"github.com/moelb/moelb/placement"
)

// Copies says how an engine sends a token to its experts on other nodes.
type Copies int

const (
	// PerNode sends one copy to every node, which hands it on to its GPUs, as DeepEP's
	// normal kernels do: fewest nodes are best, and experts that are chosen together
	// belong on one.
	PerNode Copies = iota
	// PerExpert sends one copy for every expert, as low-latency kernels do: which
	// experts are chosen together does not matter, what counts is that hot ones have
	// replicas on many nodes.
	PerExpert
)

func (c Copies) String() string { return name([]string{"node", "expert"}, int(c)) }

// Traffic is what Routes were planned for, a figure a layer; NaN in a layer
// without tokens. Nodes of a token are the fewest that together hold a replica
// of each of its experts.
type Traffic struct {
	// Even is the mean nodes of a token under the plan without Routes, and
	// EvenImbalance the imbalance of that plan: what balance costs in traffic, and
	// traffic in balance.
	Even, EvenImbalance []float64
	// Previous is the same under Problem.Previous; nil without, or where it is of
	// other GPUs.
	Previous []float64
	// HeldOut and HeldOutEven are the mean nodes of tokens that were not planned
	// with, every eighth, under the plan and under that without Routes; nil where a
	// layer has fewer than 512 tokens.
	HeldOut, HeldOutEven []float64
	// HeldOutImbalance and HeldOutEvenImbalance are the imbalance of the loads of
	// these tokens: what the gain costs in balance where it was not planned for.
	HeldOutImbalance, HeldOutEvenImbalance []float64
	// GPUs and EvenGPUs are the fewest GPUs that together hold a token's experts, in
	// the mean of up to 8,192 tokens, under the plan and that without Routes; nil
	// beyond 64 GPUs.
	GPUs, EvenGPUs []float64
	// Sent and EvenSent are the copies of a token that leave its node, as
	// Options.Copies has them sent, in the mean of up to 8,192 tokens that come evenly
	// from all GPUs.
	Sent, EvenSent []float64
	// Between is by node: [from][to], the copies that a token on one node sends to
	// another, in the mean of the layers; EvenBetween under the plan without Routes,
	// PreviousBetween under the placement in force (nil as Previous).
	Between, EvenBetween, PreviousBetween [][]float64
	// LowerBound is proved: under no placement on as many slots do a layer's tokens
	// visit fewer nodes, however uneven it is. It is weak, by a fifth and more; 1
	// beyond 2,048 experts. Where groups stay on nodes with all their replicas it is
	// exact but for balance: of all ways to share some groups by nodes the best.
	LowerBound []float64
	// Moves counts the moves, of each layer's, that traffic asked for: regrouping
	// pays as long as the same experts are chosen together, hours, evening out for as
	// long as loads last.
	Moves []int
}

// figures are those of every layer.
func (about *Traffic) figures() []*[]float64 {
	return []*[]float64{&about.Even, &about.EvenImbalance, &about.Previous, &about.HeldOut, &about.HeldOutEven, &about.HeldOutImbalance, &about.HeldOutEvenImbalance,
		&about.GPUs, &about.EvenGPUs, &about.Sent, &about.EvenSent, &about.LowerBound}
}

// matrices are those of all layers together.
func (about *Traffic) matrices() []*[][]float64 {
	return []*[][]float64{&about.Between, &about.EvenBetween, &about.PreviousBetween}
}

// view is where tokens find their experts under a placement, a figure a layer; what is
// nil is not asked for.
type view struct {
	at                      *placement.Placement
	nodes, sent, held, gpus []float64
	between                 [][]float64 // as traffic.Visits.Sent has it
}

// count counts the nodes of tokens: of all under the plan, that without routes and the
// placement in force, and of those held out.
func (about *Traffic) count(x *planner, r *Result, even *placement.Placement) {
	p, o, t, layers := x.p, x.o, x.t, len(r.Layers)
	held := p.Routes.Weights == nil
	for l := range layers {
		held = held && p.Routes.Tokens(l) >= leastHeld
	}
	figure := func() []float64 { return make([]float64, layers) }
	see := func(at *placement.Placement) *view {
		return &view{at: at, nodes: figure(), sent: figure(), between: make([][]float64, layers)}
	}
	plan, without := see(&r.Placement), see(even)
	views := []*view{plan, without}
	if held {
		plan.held, without.held = figure(), figure()
		about.heldLoads(x, &r.Placement, even)
	}
	if p.Topology.GPUs <= traffic.MaxNodes {
		plan.gpus, without.gpus = figure(), figure()
	}
	if p.Previous != nil && p.Previous.GPUs == p.Topology.GPUs {
		views = append(views, see(p.Previous))
	}
	about.LowerBound = figure()
	slots, _ := inService(t, p.Replicas)
	inParallel(o.Workers, layers, func() func(l int) {
		v, byGPU := traffic.NewVisits(t.NodeCount()), traffic.NewVisits(min(p.Topology.GPUs, traffic.MaxNodes))
		return func(l int) {
			some, all := sample(p.Routes, l), everyToken(p.Routes, l)
			for _, w := range views {
				on := setsOf(w.at, l, t.Node)
				w.nodes[l] = v.Mean(all, on)
				w.between[l] = v.Sent(some, on, o.Copies == PerExpert)
				w.sent[l] = leaving(w.between[l], t)
				if w.held != nil {
					w.held[l] = v.Mean(heldTokens(p.Routes, l), on)
				}
				if w.gpus != nil {
					w.gpus[l] = byGPU.Mean(some, setsOf(w.at, l, itself))
				}
			}
			r.Layers[l].NodesPerToken = plan.nodes[l]
			about.LowerBound[l] = fewestNodes(p, o, all, t.NodeCount(), slots)
		}
	})
	about.Sent, about.HeldOut, about.GPUs, about.Between = plan.sent, plan.held, plan.gpus, meanOf(plan.between, t)
	about.Even, about.EvenSent, about.HeldOutEven, about.EvenGPUs = without.nodes, without.sent, without.held, without.gpus
	about.EvenBetween = meanOf(without.between, t)
	if len(views) > 2 {
		about.Previous, about.PreviousBetween = views[2].nodes, meanOf(views[2].between, t)
	}
}

// itself makes every GPU a block of its own.
func itself(gpu int) int { return gpu }

// fewestNodes is a bound on the nodes of a layer's tokens, on nodes of so many slots.
func fewestNodes(p *Problem, o *Options, tokens *traffic.Tokens, nodes int, slots []int) float64 {
	experts := p.Loads.Experts()
	least := traffic.Bound(tokens, experts, slots)
	if o.Locality == ByGroup && o.OffNodeReplicas == 0 && experts%p.Groups == 0 && tokens.Len() > 0 {
		if h := traffic.Houses(tokens, experts, p.Groups, nodes); h != nil {
			return max(least, h[0].Nodes)
		}
	}
	return least
}

// heldLoads sets the imbalance of the loads of tokens held out.
func (about *Traffic) heldLoads(x *planner, plan, even *placement.Placement) {
	loads := placement.NewLoads(len(x.p.Loads), x.c.Experts())
	for l, row := range loads {
		for _, e := range heldTokens(x.p.Routes, l).IDs {
			row[e]++
		}
	}
	dispatch := x.o.Dispatch
	if dispatch == Split {
		dispatch = Even // how uneven what is to be split is
	}
	windows := []placement.Loads{loads}
	about.HeldOutImbalance = imbalanceOver(plan, windows, x.t, dispatch)
	about.HeldOutEvenImbalance = imbalanceOver(even, windows, x.t, dispatch)
}

// leaving is the mean copies that leave a token's node, of tokens that come evenly
// from all GPUs.
func leaving(between []float64, t *placement.Topology) float64 {
	n, sum := t.NodeCount(), 0.0
	for g := range t.GPUs {
		for _, x := range between[t.Node(g)*n : (t.Node(g)+1)*n] {
			sum += x
		}
	}
	return sum / float64(t.GPUs)
}

// meanOf is the mean of matrices of layers.
func meanOf(between [][]float64, t *placement.Topology) [][]float64 {
	n := t.NodeCount()
	out := make([][]float64, n)
	for from := range out {
		out[from] = make([]float64, n)
		for to := range n {
			for _, m := range between {
				out[from][to] += m[from*n+to]
			}
			out[from][to] /= float64(len(between))
		}
	}
	return out
}

// everyToken is all tokens of a layer.
func everyToken(r *placement.Routes, l int) *traffic.Tokens {
	t := &traffic.Tokens{K: r.TopK, IDs: r.IDs[l]}
	if r.Weights != nil {
		t.Weight = r.Weights[l]
	}
	return t
}

// heldTokens are those of a layer that are not planned with.
func heldTokens(r *placement.Routes, l int) *traffic.Tokens {
	t := &traffic.Tokens{K: r.TopK}
	for i := heldOut - 1; i < r.Tokens(l); i += heldOut {
		t.IDs = append(t.IDs, r.Token(l, i)...)
	}
	return t
}

// setsOf is, of each expert of a layer, the set of blocks of GPUs that hold it.
func setsOf(at *placement.Placement, l int, block func(gpu int) int) []uint64 {
	on := make([]uint64, at.Experts)
	first := at.FirstSlots()
	for g := range at.GPUs {
		for _, e := range at.PhysicalToLogical[l][first[g]:first[g+1]] {
			if e >= 0 {
				on[e] |= 1 << block(g)
			}
		}
	}
	return on
}
