package fresh

import (
	"context"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/divide"
	"github.com/moelb/moelb/eplb/internal/homes"
	"github.com/moelb/moelb/eplb/internal/problem"
)

// Planner is the plan of a layer from scratch, made when it is asked for: what the
// moves may aim at, and what is taken where they lead nowhere.
type Planner struct {
	p     *problem.Problem
	ctx   context.Context
	l     int
	s     *Anywhere
	Local *homes.Planner // nil = groups need not stay together
	j     *Windows       // nil = there is one window
	even  *divide.Planner
	made  bool

	Slot  []int32
	Level float64
	Bound float64
	Free  float64 // with groups: the level without them, of FreeSlot
	// FreeSlot is the experts of that plan.
	FreeSlot []int32
}

// New plans from scratch for p.
func New(p *problem.Problem) *Planner {
	u := p.Unit
	f := &Planner{p: p, s: newAnywhere(u, p.Experts(), len(p.Loads), p.TwoNodes), Slot: make([]int32, u.Slots)}
	f.even = divide.New(f.s.Packer)
	f.j = NewWindows(p)
	if p.ByGroup {
		f.Local, f.FreeSlot = homes.New(p), make([]int32, u.Slots)
	}
	return f
}

// SetLayer turns to layer l.
func (f *Planner) SetLayer(ctx context.Context, l int) {
	f.ctx, f.l, f.made = ctx, l, false
	if f.s.SetLoads(f.p.Loads[l]); f.s.Idle {
		f.Bound = 1
		return
	}
	f.Bound = bounds.Even(f.s.Packer)
}

// Make plans the layer.
func (f *Planner) Make() {
	if f.made {
		return
	}
	f.made = true
	s, p := f.s, f.p
	stop := func() bool { return f.ctx.Err() != nil }
	tolerance := p.Tolerance
	if f.j != nil && !p.TwoNodes {
		tolerance = f.j.SumTolerance(f.l, p)
	}
	idle := s.Idle
	bound := s.Search(tolerance, stop)
	if p.Split && f.j == nil && f.Local == nil && !idle && !p.TwoNodes {
		bound = f.even.Plan(tolerance, stop)
	}
	f.Bound = max(f.Bound, bound)
	if f.Local != nil {
		f.byGroup(idle, stop)
		return
	}
	if f.j != nil && !idle {
		f.Bound = s.PlanWindows(f.j, f.l, f.Bound, p.Tolerance, !p.TwoNodes, true, stop)
	}
	copy(f.Slot, s.Best.Slot)
	f.Level = s.Best.Level
	if p.Split && (f.j != nil || p.TwoNodes) {
		f.Level, f.Bound = f.even.Over(p, f.l, f.Slot)
	}
	if idle {
		f.Level, f.Bound = 1, 1
	}
}

// byGroup brings the layer's groups to their nodes.
func (f *Planner) byGroup(idle bool, stop func() bool) {
	s, lo, p := f.s, f.Local, f.p
	free := f.Bound
	f.Bound = lo.Plan(p.Loads[f.l], f.Bound, p.Tolerance, stop)
	f.Level, f.Free = lo.S.Best.Level, s.Best.Level
	copy(f.Slot, lo.S.Best.Slot)
	copy(f.FreeSlot, s.Best.Slot)
	if idle {
		f.Level, f.Bound, f.Free = 1, 1, 1
		return
	}
	if f.j != nil {
		s.PlanWindows(f.j, f.l, free, p.Tolerance, true, false, stop)
		f.Free = s.Best.Level
		copy(f.FreeSlot, s.Best.Slot)
		f.j.ByGroup(s, f.Slot, stop)
		f.j.S.Set(&f.j.Task)
		f.j.S.Start(f.Slot)
		f.Level = f.j.S.Time()
	}
	if p.Split { // placed for an even split, measured by the best
		f.Free, _ = f.even.Over(p, f.l, f.FreeSlot)
		f.Level, f.Bound = f.even.Over(p, f.l, f.Slot)
	}
}
