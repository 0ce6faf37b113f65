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
	stopped := make([]bool, layers)
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
			r.Layers[l].LowerBound = f.Bound
			stopped[l] = x.stopped()
		}
	})
	taken := make([]int, layers)
	if o.MaxMoves != 0 {
		moves.Take(fronts, x.p.LayerWeights, max(o.MaxMoves, 0), taken)
	} else {
		for l := range taken {
			taken[l] = len(fronts[l].Points) - 1
		}
	}
	s := divide.New(pack.New(c.Unit, c.Experts()))
	m := moves.New(c)
	for l, f := range fronts {
		g := f.Points[taken[l]]
		slot := f.Slots(g)
		level, bound := g.Time, r.Layers[l].LowerBound
		m.SetLayer(l)
		if o.Dispatch == Split {
			// An even split may gain where this one loses, or still be off the target: the
			// first within it, else the first of the best, the start included.
			level = math.Inf(1)
			for _, g := range append([]search.Point{{}}, f.Points[:taken[l]+1]...) {
				at := f.Slots(g)
				y, b := s.Over(c, l, at)
				if y < level*(1-divide.SameSplit) {
					slot, level, bound = at, y, b
				}
				if level <= o.Target {
					break
				}
			}
			m.S.Start(slot)
			g.Moves = m.S.Moves()
		}
		m.S.Settle(slot)
		r.put(c, l, slot)
		if m.Idle {
			level = 1
		}
		r.Layers[l] = newLayer(level, bound, g.Moves, stopped[l])
	}
	return r
}
