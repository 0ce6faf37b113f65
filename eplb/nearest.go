package eplb

import (
	"context"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/traffic"
	"github.com/moelb/moelb/placement"
)

// Planning for dispatch to the nearest replica starts from a plan for an even
// one, or from the placement in force with its dead experts replaced, and evens
// out what each GPU then gets.

// moveTarget is how far above a plan from scratch a layer may be where moves have
// no target.
const moveTarget = 1.01

// planNearest plans for Nearest on the nodes of t; those of p may be fault
// domains.
func planNearest(ctx context.Context, p *Problem, o *Options, t *placement.Topology) (Result, error) {
	even := *o
	even.Dispatch = Even
	aims := make([]float64, len(p.Loads))
	if p.Previous == nil {
		r := planOptimal(ctx, p, &even)
		if err := evenOut(ctx, p, o, t, aims, &r); err != nil || r.Locality == nil {
			return r, err
		}
		free, err := planNearest(ctx, p, without(o, func(o *Options) { o.Locality = Free }), t)
		for l := range free.Layers {
			r.Locality.FreeImbalance[l] = min(free.Layers[l].Imbalance, r.Layers[l].Imbalance)
		}
		return r, err
	}
	even.MaxMoves, even.Target = -1, 0
	r := planMoves(ctx, p, &even) // what experts need to live
	scratch := *p
	scratch.Previous = nil
	fresh, err := planNearest(ctx, &scratch, without(o, func(o *Options) { o.Target, o.MaxMoves = 0, 0 }), t)
	if err != nil {
		return r, err
	}
	for l, y := range fresh.Layers {
		if aims[l] = y.Imbalance * moveTarget; o.Target > 0 {
			aims[l] = o.Target
		}
	}
	if err := evenOut(ctx, p, o, t, aims, &r); err != nil {
		return r, err
	}
	if r.Locality != nil {
		for l, y := range r.Layers {
			r.Locality.FreeImbalance[l] = min(fresh.Locality.FreeImbalance[l], y.Imbalance)
		}
	}
	if o.MaxMoves == 0 {
		takeFresh(p, o, t, &r, &fresh, aims)
	}
	return r, nil
}

// without is o changed by set.
func without(o *Options, set func(o *Options)) *Options {
	c := *o
	set(&c)
	return &c
}

// takeFresh takes the plan from scratch of layers that moves did not bring to
// their aim, where it is better.
func takeFresh(p *Problem, o *Options, t *placement.Topology, r, fresh *Result, aims []float64) {
	g := newRegrouper(p, o, t, check(p, o))
	for l := range r.Layers {
		if r.Layers[l].Imbalance <= aims[l] || fresh.Layers[l].Imbalance >= r.Layers[l].Imbalance {
			continue
		}
		g.u.Read(fresh.Placement.PhysicalToLogical[l], g.slot)
		g.m.SetLayer(l)
		r.Layers[l] = fresh.Layers[l]
		g.give(l, r)
	}
}

// evenOut changes the plan r for Nearest. Layers within their aim move no more.
func evenOut(ctx context.Context, p *Problem, o *Options, t *placement.Topology, aims []float64, r *Result) error {
	limits := movesLeft(o, r)
	c := check(p, o)
	inParallel(o.Workers, len(p.Loads), func() func(l int) {
		g := newRegrouper(p, o, t, c)
		return func(l int) {
			if ctx.Err() != nil {
				r.Layers[l].Status = Stopped
				return
			}
			g.even(ctx, l, limits[l], aims[l], r)
			g.s.SetLoads(p.Loads[l])
			r.Layers[l].LowerBound = 1
			if !g.s.Idle && c.Unit.Slots == p.Replicas {
				r.Layers[l].LowerBound = bounds.Split(g.s)
			}
		}
	})
	return rescore(p, o, t, c.Unit, r)
}

// even evens out layer l within so many moves in all.
func (g *regrouper) even(ctx context.Context, l, moves int, aim float64, r *Result) {
	y := g.take(l, moves, r)
	y.Rule = traffic.Nearest
	traffic.EvenOut(y, g.slot, aim, func() bool { return ctx.Err() != nil })
	g.give(l, r)
}

// imbalanceOver is the imbalance of each layer of a plan over windows where tokens
// go to the nearest replica or, with any other dispatch, are split evenly.
func imbalanceOver(plan *placement.Placement, windows []placement.Loads, t placement.Topology, d Dispatch) ([]float64, error) {
	if d == Nearest {
		return plan.NearestOver(windows, t)
	}
	return plan.ImbalanceOver(windows, t)
}
