package eplb

import (
	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/traffic"
)

// Planning for dispatch to the nearest replica starts from a plan for an even
// one, or from the placement in force with its dead experts replaced, and evens
// out what each GPU then gets.

// moveTarget is how far above a plan from scratch a layer may be where moves have
// no target.
const moveTarget = 1.01

// nearest plans for Nearest on the nodes of t.
func (x *planner) nearest() Result {
	aims := make([]float64, len(x.p.Loads))
	if x.p.Previous == nil {
		r := x.with(func(_ *Problem, o *Options) { o.Dispatch = Even }).fresh()
		if x.evenOut(aims, &r, nil); r.Locality != nil {
			free := x.with(func(_ *Problem, o *Options) { o.Locality = Free }).nearest()
			for l, y := range free.Layers {
				r.Locality.FreeImbalance[l] = y.Imbalance
			}
		}
		return r
	}
	scratch := x.with(func(p *Problem, o *Options) { p.Previous, o.Target, o.MaxMoves = nil, 0, 0 }).nearest()
	for l, y := range scratch.Layers {
		if aims[l] = y.Imbalance * moveTarget; x.o.Target > 0 {
			aims[l] = x.o.Target
		}
	}
	// What experts need to live comes first.
	r := x.with(func(_ *Problem, o *Options) { o.Dispatch, o.Target, o.MaxMoves = Even, 0, -1 }).moves()
	if x.evenOut(aims, &r, &scratch); r.Locality != nil {
		r.Locality.FreeImbalance = scratch.Locality.FreeImbalance
	}
	return r
}

// evenOut changes the plan r for Nearest. Layers within their aim move no more; of those
// that moves without a limit do not bring there, scratch is taken where it is better.
func (x *planner) evenOut(aims []float64, r, scratch *Result) {
	for l := range r.Layers { // a bound of the even dispatch is none of this one
		r.Layers[l].LowerBound = 1
	}
	x.change(r, func(g *regrouper, l int, y *traffic.Layer) {
		level := traffic.EvenOut(y, g.slot, aims[l], x.stopped)
		if scratch != nil && x.o.MaxMoves == 0 && level > max(aims[l], scratch.Layers[l].Imbalance) {
			x.c.Unit.Read(scratch.Placement.PhysicalToLogical[l], g.slot)
		}
		if !g.at.Idle && x.c.Unit.Slots == x.p.Replicas {
			s := pack.New(x.c.Unit, x.c.Experts())
			s.SetLoads(x.p.Loads[l])
			r.Layers[l].LowerBound = bounds.Split(s)
		}
	})
}
