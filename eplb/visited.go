package eplb

import (
	"cmp"
	"math"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/traffic"
	"github.com/moelb/moelb/placement"
)

// Visited is where the tokens of a layer find their experts under a placement, in
// the mean over tokens; NaN without any.
type Visited struct {
	// Nodes are the fewest that together hold a replica of each of a token's experts.
	Nodes float64
	// GPUs are the same; NaN beyond 64 GPUs.
	GPUs float64
	// Sent is the copies of a token that leave its node where one goes to every node
	// with experts that its own lacks, SentPerExpert where one goes to each of these
	// experts. Tokens come evenly from all GPUs.
	Sent, SentPerExpert float64
}

// ScoreRoutes returns where tokens find their experts under a placement on the nodes
// of t, a figure a layer: what estimates of a unit's network start from. Nodes are
// counted over all tokens, the rest over up to 8,192 a layer. Experts without a
// replica are not looked for. Bad input is a *placement.Error.
func ScoreRoutes(at *placement.Placement, r *placement.Routes, t placement.Topology) ([]Visited, error) {
	if err := at.Validate(); err != nil {
		return nil, err
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if err := r.Validate(len(at.PhysicalToLogical), at.Experts); err != nil {
		return nil, err
	}
	nodes := t.NodeCount()
	if err := cmp.Or(
		refuse.Shape(t.GPUs != at.GPUs, "num_gpus", "%d, but the placement has %d", t.GPUs, at.GPUs),
		refuse.Shape(nodes > traffic.MaxNodes, "num_nodes", "%d: at most %d are supported", nodes, traffic.MaxNodes),
	); err != nil {
		return nil, err
	}
	for l, n := range at.LayerExperts {
		for i, e := range r.IDs[l] {
			if int(e) >= n {
				return nil, refuse.At(placement.ErrValue, "routes", l, i/r.TopK, "expert %d, but the placement's layer has %d", e, n)
			}
		}
	}
	v := traffic.NewVisits(nodes)
	out := make([]Visited, len(at.PhysicalToLogical))
	for l := range out {
		some, on := sample(r, l), setsOf(at, l, t.Node)
		out[l] = Visited{Nodes: v.Mean(everyToken(r, l), on), GPUs: math.NaN(), Sent: math.NaN(), SentPerExpert: math.NaN()}
		if some.Len() > 0 {
			out[l].Sent, out[l].SentPerExpert = leaving(v.Sent(some, on, false), &t), leaving(v.Sent(some, on, true), &t)
		}
		if t.GPUs <= traffic.MaxNodes {
			out[l].GPUs = traffic.NewVisits(t.GPUs).Mean(some, setsOf(at, l, itself))
		}
	}
	return out, nil
}

// MeanVisited is the mean over layers that have tokens, figure by figure.
func MeanVisited(layers []Visited) (mean Visited) {
	for _, of := range []func(y *Visited) *float64{
		func(y *Visited) *float64 { return &y.Nodes }, func(y *Visited) *float64 { return &y.GPUs },
		func(y *Visited) *float64 { return &y.Sent }, func(y *Visited) *float64 { return &y.SentPerExpert },
	} {
		sum, n := 0.0, 0.0
		for l := range layers {
			if v := *of(&layers[l]); !math.IsNaN(v) {
				sum, n = sum+v, n+1
			}
		}
		*of(&mean) = sum / n // NaN of none
	}
	return mean
}
