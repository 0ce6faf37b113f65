package eplb

import (
	"context"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// planner is a valid problem, and what its parts are planned with.
type planner struct {
	ctx context.Context
	p   *Problem
	o   *Options
	t   *placement.Topology // of true nodes; those of p may be fault domains
	c   *problem.Problem    // as the parts of planning are told it
}

func newPlanner(ctx context.Context, p *Problem, o *Options, t *placement.Topology) *planner {
	return &planner{ctx, p, o, t, &problem.Problem{
		Loads: p.Loads, Windows: p.Windows, Previous: p.Previous, Topology: p.Topology, Replicas: p.Replicas, Groups: p.Groups,
		Unit:    problem.NewUnit(&p.Topology, p.Replicas, p.Loads.Experts()),
		ByGroup: o.Locality == ByGroup, Off: o.OffNodeReplicas, TwoNodes: o.TwoNodes, Split: o.Dispatch == Split,
		Tolerance: max(o.Tolerance, 0), Target: o.Target, Restarts: o.Restarts,
	}}
}

// with is the same for a problem that is changed.
func (x *planner) with(change func(p *Problem, o *Options)) *planner {
	p, o := *x.p, *x.o
	change(&p, &o)
	return newPlanner(x.ctx, &p, &o, x.t)
}

// stopped says whether the context ended.
func (x *planner) stopped() bool { return x.ctx.Err() != nil }
