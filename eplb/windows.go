package eplb

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

// sumTolerance is how near its bound the plan on the sum of the windows of layer l
// must come: not very, where none of them is most of it.
func (j *windows) sumTolerance(l int, p *checked) float64 {
	if j.setLoads(l); slices.Max(j.task.Share) > .5 {
		return p.tolerance
	}
	return max(p.tolerance, 1e-2)
}

// windows plans a layer over several windows, starting from a plan on their sum
// and one for the largest load that each expert has in any of them. Its memory is
// used again for every layer.
type windows struct {
	*layerTask
	joint search.Joint
	w     []float64
}

// newWindows is nil where there is one window.
func newWindows(p *checked) *windows {
	if len(p.windows) == 0 {
		return nil
	}
	return &windows{layerTask: newLayerTask(p)}
}

// byGroup improves the plan at slot, whose groups are at home, for all windows of
// the layer at hand, with at most off replicas elsewhere.
func (j *windows) byGroup(s *scratch, slot []int32, home []int32, off int, stop func() bool) {
	if len(j.task.Share) < 2 || slices.Contains(slot, -1) {
		return
	}
	copy(s.best.slot, slot)
	j.setHome(home, off)
	s.planWindows(j, j.at-1, 1, j.p.tolerance, false, stop)
	j.task.Home = nil
	copy(slot, s.best.slot)
}

// planWindows improves s.best, the plan of layer l on the sum of its windows, for
// all of them, and returns a lower bound, where bound is one of the sum: the time
// that all windows take together is no less than that of their sum. free says
// that experts may live anywhere.
func (s *scratch) planWindows(j *windows, l int, bound, tolerance float64, free bool, stop func() bool) float64 {
	j.setLoads(l)
	t := &j.task
	n := len(t.Share)
	if n < 2 { // the sum is that window
		return bound
	}
	bound = max(bound, s.windowsBound(j))
	j.s.Set(t)
	seeds := [][]int32{s.best.slot}
	if free {
		s.setLoads(t.Peaks())
		if s.adams(s.u.slots, len(s.u.gpu), nil) && s.pack() {
			seeds = append(seeds, s.slot)
		}
	}
	j.joint.Search(&j.s, seeds, bound*(1+tolerance), stop)
	s.best.level = j.joint.BestTime
	copy(s.best.slot, j.joint.Best)
	clear(s.best.count)
	for _, e := range s.best.slot {
		s.best.count[e]++
	}
	return bound
}

// windowsBound is the sum of the windows' lower bounds.
func (s *scratch) windowsBound(j *windows) (bound float64) {
	n := len(j.task.Share)
	j.w = slices.Grow(j.w[:0], len(s.w))[:len(s.w)]
	for k, a := range j.task.Share {
		for e := range j.w {
			j.w[e] = j.task.Load[e*n+k]
		}
		s.setLoads(j.w)
		bound += float64(a * speedBound(s.solver, replicaBound(s.solver)))
	}
	return bound * (1 - 1e-12) // rounding must not matter
}
