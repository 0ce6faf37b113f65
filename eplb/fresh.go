package eplb

import "context"

// fresh is the plan of a layer from scratch, made when it is asked for: what the
// moves may aim at, and what is taken where they lead nowhere.
type fresh struct {
	p     *checked
	ctx   context.Context
	l     int
	s     *scratch
	local *locality // nil = groups need not stay together
	two   *apart    // of plans with every expert on two nodes; nil = need not be
	j     *windows  // nil = there is one window
	even  *splitPlanner
	homes *splitPlanner // of local
	made  bool

	slot  []int32
	level float64
	bound float64
	free  float64 // with groups: the level without them
}

// newFresh plans from scratch for p.
func newFresh(p *checked) *fresh {
	u := p.unit
	f := &fresh{p: p, s: newScratch(u, p.experts(), len(p.loads)), slot: make([]int32, u.slots)}
	f.even = newSplitPlanner(f.s.solver)
	if !p.split || !p.byGroup { // groups are split on the sum of the windows
		f.j = newWindows(p)
	}
	if p.twoNodes {
		f.s.least = 2
		f.two = newApart(u, p.experts())
	}
	if p.byGroup {
		f.local = newLocality(p)
		f.homes = newSplitPlanner(f.local.s)
	}
	return f
}

// setLayer turns to layer l.
func (f *fresh) setLayer(ctx context.Context, l int) {
	f.ctx, f.l, f.made = ctx, l, false
	if f.s.setLoads(f.p.loads[l]); f.s.idle {
		f.bound = 1
		return
	}
	f.bound = replicaBound(f.s.solver)
}

// make plans the layer.
func (f *fresh) make() {
	if f.made {
		return
	}
	f.made = true
	s, p := f.s, f.p
	stop := func() bool { return f.ctx.Err() != nil }
	tolerance := p.tolerance
	if f.j != nil {
		tolerance = f.j.sumTolerance(f.l, p)
	}
	idle := s.idle
	switch {
	case f.two != nil:
		f.bound = max(f.bound, s.searchTwoNodes(f.two, p.tolerance, stop))
	case p.split && f.j == nil && f.local == nil && !idle:
		f.bound = max(f.bound, f.even.plan(s, tolerance, stop))
	default:
		f.bound = max(f.bound, s.search(tolerance, stop))
	}
	if f.local != nil {
		f.byGroup(idle, stop)
		return
	}
	if f.j != nil && !idle {
		f.bound = s.planWindows(f.j, f.l, f.bound, p.tolerance, f.two == nil, stop)
	}
	copy(f.slot, s.best.slot)
	f.level = s.best.level
	if p.split && (f.j != nil || f.two != nil) {
		f.level, f.bound = f.even.over(p, f.l, f.slot, f.level)
	}
	if idle {
		f.level, f.bound = 1, 1
	}
}

// byGroup brings the layer's groups to their nodes.
func (f *fresh) byGroup(idle bool, stop func() bool) {
	s, lo, p := f.s, f.local, f.p
	f.bound = lo.plan(s.solver, f.bound, p.tolerance, idle, stop)
	f.level, f.free = lo.s.best.level, s.best.level
	if p.split && !idle {
		// Placed for an even split, measured by the best.
		f.level, f.free, f.bound = f.homes.level(), f.even.level(), splitBound(s.solver)
	}
	lo.into(p.unit, f.slot)
	if idle {
		f.level, f.bound, f.free = 1, 1, 1
		return
	}
	if f.j != nil {
		s.planWindows(f.j, f.l, f.bound, p.tolerance, true, stop)
		f.free = s.best.level
		f.j.byGroup(s, f.slot, lo.home, max(p.off, lo.offHome()), stop)
		f.j.s.Set(&f.j.task)
		f.j.s.Start(f.slot)
		f.level = f.j.s.Time()
	}
	f.free = min(f.free, f.level)
}
