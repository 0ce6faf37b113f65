package eplb

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/traffic"
	"github.com/moelb/moelb/placement"
)

// Traffic is what Routes were planned for, a figure a layer.
type Traffic struct {
	// Plan is where tokens find their experts under the plan, and Even under that
	// without Routes; Previous under Problem.Previous, nil without, or where it is of
	// other GPUs.
	Plan, Even, Previous []Visited
	// EvenImbalance is the imbalance of the plan without Routes: what traffic costs in
	// balance.
	EvenImbalance []float64
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

// count counts where tokens find their experts under the plan, that without routes and
// the placement in force.
func (about *Traffic) count(x *planner, r *Result, even *placement.Placement) {
	p, layers := x.p, len(r.Layers)
	about.Plan, about.Even, about.LowerBound = make([]Visited, layers), make([]Visited, layers), make([]float64, layers)
	if p.Previous != nil && p.Previous.GPUs == p.Topology.GPUs {
		about.Previous = make([]Visited, layers)
	}
	held := placement.NewLoads(layers, x.c.Experts())
	slots, _ := inService(x.t, p.Replicas)
	inParallel(x.o.Workers, layers, func() func(l int) {
		of := newLook(x.t)
		return func(l int) {
			all, some, tokens := sample(p.Routes, l)
			about.Plan[l], about.Even[l] = of.layer(&r.Placement, l, all, some, tokens), of.layer(even, l, all, some, tokens)
			if about.Previous != nil {
				about.Previous[l] = of.layer(p.Previous, l, all, some, noTokens)
			}
			r.Layers[l].NodesPerToken = about.Plan[l].Nodes
			about.LowerBound[l] = fewestNodes(p, x.o, all, x.t.NodeCount(), slots)
			for _, e := range tokens.IDs {
				held[l][e]++
			}
		}
	})
	windows := []placement.Loads{held}
	plan, without := imbalanceOver(&r.Placement, windows, x.t, x.o.Dispatch), imbalanceOver(even, windows, x.t, x.o.Dispatch)
	for l := range layers {
		if !math.IsNaN(about.Plan[l].HeldOut) {
			about.Plan[l].HeldOutImbalance, about.Even[l].HeldOutImbalance = plan[l], without[l]
		}
	}
}

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
