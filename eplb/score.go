package eplb

import (
	"github.com/moelb/moelb/eplb/internal/divide"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// rescore sets the imbalance of every layer of a plan, which may have been changed
// since or made for sums of windows, to that over all windows.
func rescore(p *Problem, o *Options, t *placement.Topology, u *problem.Unit, r *Result) error {
	windows := p.Windows
	if len(windows) == 0 {
		windows = []placement.Loads{p.Loads}
	}
	figure, err := imbalanceOver(&r.Placement, windows, *t, o.Dispatch)
	if err != nil {
		return err
	}
	s := divide.New(pack.New(u, p.Loads.Experts()))
	of := &problem.Problem{Loads: p.Loads, Windows: p.Windows}
	slot := make([]int32, u.Slots)
	for l := range r.Layers {
		y := &r.Layers[l]
		if o.Dispatch == Split {
			u.Read(r.Placement.PhysicalToLogical[l], slot)
			figure[l], y.LowerBound = s.Over(of, l, slot)
		}
		*y = newLayer(figure[l], y.LowerBound, y.Moves, y.Status == Stopped)
		if k := r.Locality; k != nil { // a plan that was changed may be the more even one
			k.FreeImbalance[l] = min(k.FreeImbalance[l], y.Imbalance)
		}
	}
	return nil
}
