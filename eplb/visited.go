package eplb

import (
	"cmp"
	"math"

	"github.com/moelb/moelb/eplb/internal/refuse"
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

// Visited is where the tokens of a layer find their experts under a placement, in
// the mean over tokens; NaN without any.
type Visited struct {
	// Nodes are the fewest that together hold a replica of each of a token's experts.
	Nodes float64
	// GPUs are the same; NaN beyond 64 GPUs.
	GPUs float64
	// Sent is, by Copies, the copies of a token that leave its node; tokens come evenly
	// from all GPUs in service. Between is by node, [from][to], the copies that a token on
	// one node sends to another.
	Sent    [2]float64
	Between [2][][]float64
	// HeldOut is Nodes of tokens that were not planned with, every eighth, and
	// HeldOutImbalance the imbalance of their loads; NaN where a layer has fewer than
	// 512 tokens, of pairs, and where nothing was planned.
	HeldOut, HeldOutImbalance float64
}

// figures are all numbers of y.
func (y *Visited) figures() []*float64 {
	out := []*float64{&y.Nodes, &y.GPUs, &y.Sent[PerNode], &y.Sent[PerExpert], &y.HeldOut, &y.HeldOutImbalance}
	for _, between := range y.Between {
		for _, row := range between {
			for to := range row {
				out = append(out, &row[to])
			}
		}
	}
	return out
}

// ScoreRoutes returns where tokens find their experts under a placement on the nodes
// of t, a layer each: what estimates of a unit's network start from. Nodes are
// counted over all tokens, the rest over up to 8,192 a layer. Experts without a
// replica are not looked for. Bad input is a *placement.Error.
func ScoreRoutes(at *placement.Placement, r *placement.Routes, t placement.Topology) ([]Visited, error) {
	if err := cmp.Or(at.Validate(), t.Validate()); err != nil {
		return nil, err
	}
	nodes := t.NodeCount()
	if err := cmp.Or(
		refuse.Shape(t.GPUs != at.GPUs, "num_gpus", "%d, but the placement has %d", t.GPUs, at.GPUs),
		refuse.Shape(nodes > traffic.MaxNodes, "num_nodes", "%d: at most %d are supported", nodes, traffic.MaxNodes),
		checkChosen(r, len(at.PhysicalToLogical), at.Experts, at.LayerExperts),
	); err != nil {
		return nil, err
	}
	out := make([]Visited, len(at.PhysicalToLogical))
	look := newLook(&t)
	for l := range out {
		all, some, _ := sample(r, l)
		out[l] = look.layer(at, l, all, some, noTokens)
	}
	return out, nil
}

// MeanVisited is the mean over layers that have tokens, figure by figure.
func MeanVisited(layers []Visited) (mean Visited) {
	if len(layers) > 0 {
		n := len(layers[0].Between[0])
		mean.Between = [2][][]float64{rows[float64](n, n), rows[float64](n, n)}
	}
	of := make([][]*float64, len(layers))
	for l := range layers {
		of[l] = layers[l].figures()
	}
	for k, to := range mean.figures() {
		sum, n := 0.0, 0.0
		for _, y := range of {
			if v := *y[k]; !math.IsNaN(v) {
				sum, n = sum+v, n+1
			}
		}
		*to = sum / n // NaN of none
	}
	return mean
}

// look sees where tokens find their experts.
type look struct {
	t             *placement.Topology
	byNode, byGPU *traffic.Visits
}

func newLook(t *placement.Topology) *look {
	return &look{t, traffic.NewVisits(t.NodeCount()), traffic.NewVisits(min(t.GPUs, traffic.MaxNodes))}
}

// noTokens are none.
var noTokens = &traffic.Tokens{K: 1}

// layer is where all tokens of layer l, some of them and those held out find their
// experts under a placement.
func (x *look) layer(at *placement.Placement, l int, all, some, held *traffic.Tokens) Visited {
	on := setsOf(at, l, x.t.Node)
	y := Visited{Nodes: x.byNode.Mean(all, on), GPUs: math.NaN(), HeldOut: x.byNode.Mean(held, on), HeldOutImbalance: math.NaN()}
	if x.t.GPUs <= traffic.MaxNodes {
		y.GPUs = x.byGPU.Mean(some, setsOf(at, l, func(gpu int) int { return gpu }))
	}
	_, gpus := inService(x.t, 0)
	for c := range y.Sent {
		y.Between[c] = x.byNode.Sent(some, on, Copies(c) == PerExpert)
		for from, row := range y.Between[c] {
			for _, n := range row {
				y.Sent[c] += float64(n * float64(gpus[from]))
			}
		}
		y.Sent[c] /= float64(x.t.InService())
	}
	return y
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
