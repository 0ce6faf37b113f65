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
		Bare:    p.bare(),
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

// plan plans all layers, for their traffic too.
func (x *planner) plan() (r Result) {
	switch {
	case x.o.Policy == DeepSeek:
		r = planDeepSeek(x.p, x.o)
	case x.c.Bare != nil:
		r = x.everywhere()
	case x.o.Dispatch == Nearest:
		r = x.nearest()
	case x.p.Previous != nil:
		r = x.moves()
	default:
		r = x.fresh()
	}
	if len(x.p.Windows) > 1 && x.o.Dispatch == Even || x.c.Bare != nil { // planned for their sum, or for some experts
		x.rescore(&r)
	}
	if x.p.Routes != nil {
		x.regroup(&r)
	}
	if k := r.Locality; k != nil { // the plan itself may be the more even one
		for l, y := range r.Layers {
			k.FreeImbalance[l] = min(k.FreeImbalance[l], y.Imbalance)
		}
	}
	return r
}
