package eplb

import (
	"context"
	"slices"

	"github.com/moelb/moelb/eplb/internal/divide"
	"github.com/moelb/moelb/eplb/internal/fresh"
	"github.com/moelb/moelb/eplb/internal/moves"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/search"
)

// planMoves plans from p.Previous.
func planMoves(ctx context.Context, p *Problem, o *Options) Result {
	layers := len(p.Loads)
	r := newResult(p, o)
	c := check(p, o)
	even := *c
	even.Split = false // moves make the even split even
	fronts := make([]*search.Front, layers)
	stopped := make([]bool, layers)
	limited := o.MaxMoves != 0
	inParallel(o.Workers, layers, func() func(l int) {
		m, f := moves.New(c), fresh.New(&even)
		s := divide.New(pack.New(c.Unit, c.Experts()))
		return func(l int) {
			f.SetLayer(ctx, l)
			if f.Local != nil {
				f.Make()
				free := &r.Locality.FreeImbalance[l]
				if *free = f.Free; c.Split {
					*free, _ = s.Over(c, l, f.FreeSlot)
				}
			}
			fronts[l] = m.Front(ctx, f, l, limited)
			r.Layers[l].LowerBound = f.Bound
			stopped[l] = ctx.Err() != nil
		}
	})
	taken := make([]int, layers)
	if limited {
		moves.Take(fronts, p.LayerWeights, max(o.MaxMoves, 0), taken)
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
			level, bound = s.Over(c, l, slot)
			try := func(at []int32, less bool) bool {
				x, _ := s.Over(c, l, at)
				if less = less && x < level || x <= o.Target; less {
					m.S.Start(at)
					slot, level, g.Moves = at, x, m.S.Moves()
				}
				return less
			}
			// An even split may gain where this one loses, or still be off the target.
			if start := f.Start(); !slices.Equal(start, slot) && !try(start, true) {
				for _, early := range f.Points[:taken[l]] {
					if try(f.Slots(early), false) {
						break
					}
				}
			}
		}
		m.S.Settle(slot)
		r.put(c, l, slot)
		if m.Idle {
			level = 1
		}
		r.Layers[l] = newLayer(level, bound, g.Moves, stopped[l])
		if r.Locality != nil {
			r.Locality.FreeImbalance[l] = min(r.Locality.FreeImbalance[l], level)
		}
	}
	return r
}
