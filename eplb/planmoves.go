package eplb

import (
	"context"

	"github.com/moelb/moelb/eplb/internal/search"
)

// planMoves plans from p.Previous.
func planMoves(ctx context.Context, p *Problem, o *Options) Result {
	layers := len(p.Loads)
	r := newResult(p, o)
	c := check(p, o)
	even := *c
	even.split = false // moves make the even split even
	fronts := make([]*search.Front, layers)
	stopped := make([]bool, layers)
	limited := o.MaxMoves != 0
	inParallel(o.Workers, layers, func() func(l int) {
		m, f := newMover(c), newFresh(&even)
		return func(l int) {
			f.setLayer(ctx, l)
			if f.local != nil {
				f.make()
				r.Locality.FreeImbalance[l] = f.free
			}
			fronts[l] = m.front(ctx, f, l, limited)
			r.Layers[l].LowerBound = f.bound
			stopped[l] = ctx.Err() != nil
		}
	})
	taken := make([]int, layers)
	if limited {
		take(fronts, max(o.MaxMoves, 0), taken)
	} else {
		for l := range taken {
			taken[l] = len(fronts[l].Points) - 1
		}
	}
	s := newSplitPlanner(newSolver(c.unit, c.experts()))
	m := newMover(c)
	for l, f := range fronts {
		g := f.Points[taken[l]]
		slot := f.Slots(g)
		m.setLayer(l)
		m.s.Settle(slot)
		row := r.Placement.PhysicalToLogical[l]
		c.unit.write(slot, row)
		level, bound := g.Time, r.Layers[l].LowerBound
		if m.idle {
			level = 1
		}
		if o.Dispatch == Split {
			level, bound = s.over(c, l, slot, level)
		}
		r.Layers[l] = newLayer(level, bound, stopped[l])
		r.Layers[l].Moves = g.Moves
		if r.Locality != nil {
			r.Locality.count(c, l, row)
			r.Locality.FreeImbalance[l] = min(r.Locality.FreeImbalance[l], level)
		}
	}
	return r
}
