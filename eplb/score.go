package eplb

import "github.com/moelb/moelb/placement"

// sumWindows sets p.Loads to the sum of the windows.
func sumWindows(p *Problem) {
	p.Loads = placement.NewLoads(len(p.Windows[0]), p.Windows[0].Experts())
	for _, w := range p.Windows {
		for l, row := range w {
			for e, x := range row {
				p.Loads[l][e] += x
			}
		}
	}
}

// scoreWindows sets the imbalance of every layer of a plan to that over all
// windows, of which the plan may know but sums.
func scoreWindows(p *Problem, r *Result) {
	time, err := r.Placement.ImbalanceOver(p.Windows, p.Topology)
	if err != nil {
		return // not where the plan is valid
	}
	for l, x := range time {
		y := &r.Layers[l]
		bound := min(max(y.LowerBound, 1), x)
		moves, stopped := y.Moves, y.Status == Stopped
		*y = newLayer(x, bound, stopped)
		y.Moves = moves
		if r.Locality != nil {
			r.Locality.FreeImbalance[l] = min(r.Locality.FreeImbalance[l], x)
		}
	}
}
