package eplb

import (
	"github.com/moelb/moelb/eplb/internal/problem"
)

// check is a valid problem as the parts of planning are told it.
func check(p *Problem, o *Options) *problem.Problem {
	return &problem.Problem{
		Loads: p.Loads, Windows: p.Windows, Previous: p.Previous, Topology: p.Topology, Replicas: p.Replicas, Groups: p.Groups,
		Unit:    problem.NewUnit(&p.Topology, p.Replicas, p.Loads.Experts()),
		ByGroup: o.Locality == ByGroup, Off: o.OffNodeReplicas, TwoNodes: o.TwoNodes, Split: o.Dispatch == Split,
		Tolerance: max(o.Tolerance, 0), Target: o.Target, Restarts: o.Restarts,
	}
}
