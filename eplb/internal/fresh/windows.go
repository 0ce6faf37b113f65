package fresh

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/homes"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/search"
)

// SumTolerance is how near its bound the plan on the sum of the windows of layer l
// must come: not very, where none of them is most of it.
func (j *Windows) SumTolerance(l int, p *problem.Problem) float64 {
	if j.SetLoads(l); slices.Max(j.Task.Share) > .5 {
		return p.Tolerance
	}
	return max(p.Tolerance, 1e-2)
}

// Windows plans a layer over several windows, starting from a plan on their sum
// and one for the largest load that each expert has in any of them. Its memory is
// used again for every layer.
type Windows struct {
	*problem.Layer
	joint search.Joint
	w     []float64
}

// NewWindows is nil where there is one window.
func NewWindows(p *problem.Problem) *Windows {
	if len(p.Windows) == 1 {
		return nil
	}
	return &Windows{Layer: problem.NewLayer(p)}
}

// ByGroup improves the plan at slot, whose groups are at home, for all windows of
// the layer at hand.
func (j *Windows) ByGroup(s *Anywhere, slot []int32, stop func() bool) {
	if len(j.Task.Share) < 2 || slices.Contains(slot, -1) {
		return
	}
	copy(s.Best.Slot, slot)
	j.SetHome(homes.Of(j.P, slot), j.P.Off)
	s.PlanWindows(j, j.At-1, 1, j.P.Tolerance, false, true, stop)
	j.Task.Home = nil
	copy(slot, s.Best.Slot)
}

// PlanWindows improves s.best, the plan of layer l on the sum of its windows, for
// all of them, and returns a lower bound, where bound is one of the sum: the time
// that all windows take together is no less than that of their sum. free says
// that experts may live anywhere, firm that a little is done even when it is to stop.
func (s *Anywhere) PlanWindows(j *Windows, l int, bound, tolerance float64, free, firm bool, stop func() bool) float64 {
	j.SetLoads(l)
	t := &j.Task
	n := len(t.Share)
	if n < 2 { // the sum is that window
		return bound
	}
	bound = max(bound, s.windowsBound(j))
	j.S.Set(t)
	seeds := [][]int32{s.Best.Slot}
	if free {
		s.SetLoads(t.Peaks())
		s.CountBy(-1, 0)
		s.Pack()
		seeds = append(seeds, s.Slot)
	}
	j.joint.Search(&j.S, seeds, bound*(1+tolerance), firm, stop)
	j.S.Start(j.joint.Best)
	s.Best.Level = math.Inf(1)
	s.keepState(&j.S)
	return bound
}

// windowsBound is the sum of the windows' lower bounds.
func (s *Anywhere) windowsBound(j *Windows) (bound float64) {
	n := len(j.Task.Share)
	j.w = slices.Grow(j.w[:0], len(s.W))[:len(s.W)]
	for k, a := range j.Task.Share {
		for e := range j.w {
			j.w[e] = j.Task.Load[e*n+k]
		}
		s.SetLoads(j.w)
		bound += float64(a * bounds.Even(s.Packer))
	}
	return bound * (1 - 1e-12) // rounding must not matter
}
