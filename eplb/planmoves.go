package eplb

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/divide"
	"github.com/moelb/moelb/eplb/internal/fresh"
	"github.com/moelb/moelb/eplb/internal/moves"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/search"
)

// moves plans from p.Previous.
func (x *planner) moves() Result {
	o, c := x.o, x.c
	layers := len(x.p.Loads)
	r := newResult(x.p, o)
	even := *c
	even.Split = false // moves make the even split even
	fronts := make([]*search.Front, layers)
	inParallel(o.Workers, layers, func() func(l int) {
		m, f := moves.New(c), fresh.New(&even)
		s := divide.New(pack.New(c.Unit, c.Experts()))
		return func(l int) {
			f.SetLayer(x.ctx, l)
			if f.Local != nil {
				f.Make()
				free := &r.Locality.FreeImbalance[l]
				if *free = f.Free; c.Split {
					*free, _ = s.Over(c, l, f.FreeSlot)
				}
			}
			fronts[l] = m.Front(x.ctx, f, l, o.MaxMoves)
			r.Layers[l] = newLayer(math.Inf(1), f.Bound, 0, x.stopped())
		}
	})
	taken := moves.Take(fronts, x.p.LayerWeights, o.MaxMoves)
	g := newRegrouper(x)
	s := divide.New(pack.New(c.Unit, c.Experts()))
	for l, f := range fronts {
		y, at := &r.Layers[l], f.Points[taken[l]]
		level, bound := at.Time, y.LowerBound
		copy(g.slot, f.Slots(at))
		if o.Dispatch == Split {
			// An even split may gain where this one loses, or still be off the target: the
			// first within it, else the first of the best, the start included.
			level = math.Inf(1)
			for _, at := range append([]search.Point{{}}, f.Points[:taken[l]+1]...) {
				slot := f.Slots(at)
				if t, b := s.Over(c, l, slot); t < level*(1-divide.SameSplit) {
					level, bound = t, b
					copy(g.slot, slot)
				}
				if level <= o.Target {
					break
				}
			}
		}
		if g.give(l, &r); g.at.Idle {
			level = 1
		}
		*y = newLayer(level, bound, y.Moves, y.Status == Stopped)
	}
	return r
}
