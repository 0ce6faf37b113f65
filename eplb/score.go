package eplb

import (
	"github.com/moelb/moelb/eplb/internal/divide"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/placement"
)

// rescore sets the imbalance of every layer of a plan, which may have been changed
// since or made for sums of windows, to that over all windows.
func (x *planner) rescore(r *Result) {
	figure := imbalanceOver(&r.Placement, x.p.Windows, x.t, x.o.Dispatch)
	s := divide.New(pack.New(x.c.Unit, x.c.Experts()))
	slot := make([]int32, x.c.Unit.Slots)
	for l := range r.Layers {
		y := &r.Layers[l]
		if x.c.Split {
			x.c.Unit.Read(r.Placement.PhysicalToLogical[l], slot)
			figure[l], y.LowerBound = s.Over(x.c, l, slot)
		}
		*y = newLayer(figure[l], y.LowerBound, y.Moves, y.Status == Stopped)
	}
}

// imbalanceOver is the imbalance of each layer of a plan over windows where tokens
// go to the nearest replica or, with any other dispatch, are split evenly.
func imbalanceOver(plan *placement.Placement, windows []placement.Loads, t *placement.Topology, d Dispatch) []float64 {
	score := plan.ImbalanceOver
	if d == Nearest {
		score = plan.NearestOver
	}
	figure, err := score(windows, *t)
	if err != nil { // of no plan of a valid problem
		panic(err)
	}
	return figure
}
