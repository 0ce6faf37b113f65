package eplb

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/moelb/moelb/placement"
)

// planOptimal plans every layer by itself, Workers at a time.
func planOptimal(ctx context.Context, p *Problem, o *Options) Result {
	r := newResult(p, o)
	u := newUnit(&p.Topology, p.Replicas, p.Loads.Experts(), nil)
	if o.TwoNodes {
		planTwoNodes(ctx, p, o, u, &r)
		return r
	}
	inParallel(o.Workers, len(p.Loads), func() func(l int) {
		s := newSolver(u, p.Loads.Experts())
		s.thrift = max(1, len(p.Loads)/manyLayers)
		var local *locality
		if o.Locality == ByGroup {
			local = newLocality(p, o)
		}
		j := newWindows(p, o, u)
		return func(l int) { s.planLayer(ctx, p, o, l, &r, local, j) }
	})
	return r
}

// newResult is an empty result of p's shape.
func newResult(p *Problem, o *Options) Result {
	layers := len(p.Loads)
	r := Result{
		Placement: placement.Placement{Experts: p.Loads.Experts(), GPUs: p.Topology.GPUs, PhysicalToLogical: make([][]int, layers)},
		Layers:    make([]Layer, layers),
	}
	if p.Replicas%p.Topology.GPUs != 0 {
		r.Placement.GPUSlots = placement.EvenSlots(p.Replicas, p.Topology.GPUs)
	}
	cells := make([]int, layers*p.Replicas)
	for l := range r.Placement.PhysicalToLogical {
		r.Placement.PhysicalToLogical[l] = cells[l*p.Replicas : (l+1)*p.Replicas : (l+1)*p.Replicas]
	}
	if o.Locality == ByGroup {
		r.Locality = newLocalityPrice(layers, p.Groups)
	}
	return r
}

// inParallel calls do for 0..n-1, workers at a time (0 = GOMAXPROCS). Every
// worker makes a do of its own, with the memory that it needs. A panic of do ends
// the call like one of the caller's own, so that it can be recovered there.
func inParallel(workers, n int, worker func() (do func(i int))) {
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Int64
	var failed atomic.Value
	work := func() {
		defer func() {
			if r := recover(); r != nil {
				failed.CompareAndSwap(nil, fmt.Sprintf("%v\n%s", r, debug.Stack()))
			}
		}()
		do := worker()
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			do(i)
		}
	}
	var wg sync.WaitGroup
	for range min(workers, n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if r := failed.Load(); r != nil {
		panic(r)
	}
}

// planLayer plans layer l into r; local is nil where groups need not stay together, j
// where there is one window.
func (s *solver) planLayer(ctx context.Context, p *Problem, o *Options, l int, r *Result, local *locality, j *windows) {
	stop := func() bool { return ctx.Err() != nil }
	s.setLoads(p.Loads[l])
	bound := 0.0
	switch {
	case local != nil:
		tolerance := max(o.Tolerance, 0)
		if o.Dispatch == Split {
			j = nil // groups are split on the sum of the windows
		}
		if j != nil {
			tolerance = j.sumTolerance(l, o)
		}
		bound = s.search(tolerance, stop)
		local.planByGroup(ctx, p, o, l, r, s, bound)
		if j != nil {
			s.planWindows(j, l, bound, max(o.Tolerance, 0), true, stop)
			r.Locality.FreeImbalance[l] = s.best.level
			j.byGroup(o, l, r, s, stop)
		}
		return
	case s.idle:
		bound = s.search(0, stop)
	case o.Dispatch == Split && j == nil:
		bound = s.planSplit(max(o.Tolerance, 0), stop)
	case j != nil:
		bound = s.search(j.sumTolerance(l, o), stop)
		bound = s.planWindows(j, l, bound, max(o.Tolerance, 0), true, stop)
		if o.Dispatch == Split {
			s.best.level, bound = s.splitOver(p, l, slices.Clone(s.best.slot), s.best.level)
		}
	default:
		bound = s.search(max(o.Tolerance, 0), stop)
	}
	r.Layers[l] = s.export(r.Placement.PhysicalToLogical[l], bound, ctx.Err() != nil)
}

// provedTolerance is how near a level must come to its bound to be called
// equal: what rounding leaves.
const provedTolerance = 1e-9

// export writes the best placement into a row of the result.
func (s *solver) export(row []int, bound float64, stopped bool) Layer {
	writeRow(s.u, s.best.slot, row)
	return newLayer(s.best.level, bound, stopped)
}

// writeRow writes the slots of a unit into a row of a placement, -1 elsewhere.
func writeRow(u *unit, slot []int32, row []int) {
	for i := range row {
		row[i] = -1
	}
	for g, at := range u.start {
		for i, e := range slot[u.first[g]:u.first[g+1]] {
			row[at+i] = int(e)
		}
	}
}

// newLayer is the report of a layer.
func newLayer(level, bound float64, stopped bool) Layer {
	out := Layer{Imbalance: level, LowerBound: min(bound, level)}
	switch {
	case level <= bound*(1+provedTolerance):
		out.Status = Proved
	case stopped:
		out.Status = Stopped
	}
	return out
}
