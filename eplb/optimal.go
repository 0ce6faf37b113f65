package eplb

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/moelb/moelb/placement"
)

// planOptimal plans every layer by itself, Workers at a time.
func planOptimal(ctx context.Context, p *Problem, o *Options) Result {
	layers, gpus := len(p.Loads), p.Topology.GPUs
	r := Result{
		Placement: placement.Placement{Experts: p.Loads.Experts(), GPUs: gpus, PhysicalToLogical: make([][]int, layers)},
		Layers:    make([]Layer, layers),
	}
	if p.Replicas%gpus != 0 {
		r.Placement.GPUSlots = placement.EvenSlots(p.Replicas, gpus)
	}
	cells := make([]int, layers*p.Replicas)
	for l := range r.Placement.PhysicalToLogical {
		r.Placement.PhysicalToLogical[l] = cells[l*p.Replicas : (l+1)*p.Replicas : (l+1)*p.Replicas]
	}
	if o.Locality == ByGroup {
		r.Locality = newLocalityPrice(layers, p.Groups)
	}
	workers := o.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, layers)
	u := newUnit(&p.Topology, p.Replicas, p.Loads.Experts(), nil)
	var next atomic.Int64
	work := func() {
		s := newSolver(u, p.Loads.Experts())
		s.thrift = max(1, layers/manyLayers)
		var local *locality
		if o.Locality == ByGroup {
			local = newLocality(p, o)
		}
		for {
			l := int(next.Add(1)) - 1
			if l >= layers {
				return
			}
			s.planLayer(ctx, p, o, l, &r, local)
		}
	}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return r
}

// planLayer plans layer l into r; local is nil where groups need not stay together.
func (s *solver) planLayer(ctx context.Context, p *Problem, o *Options, l int, r *Result, local *locality) {
	stop := func() bool { return ctx.Err() != nil }
	s.setLoads(p.Loads[l])
	bound := 0.0
	switch {
	case local != nil:
		bound = s.search(max(o.Tolerance, 0), stop)
		local.planByGroup(ctx, p, o, l, r, s, bound)
		if len(p.Windows) > 0 {
			s.planWindows(p, l, max(o.Tolerance, 0), stop)
			r.Locality.FreeImbalance[l] = s.best.level
		}
		return
	case s.idle:
		bound = s.search(0, stop)
	case o.Dispatch == Split:
		bound = s.planSplit(max(o.Tolerance, 0), stop)
	case len(p.Windows) > 0:
		bound = s.planWindows(p, l, max(o.Tolerance, 0), stop)
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
	for i := range row {
		row[i] = -1
	}
	u := s.u
	for g, at := range u.start {
		for i, e := range s.best.slot[u.first[g]:u.first[g+1]] {
			row[at+i] = int(e)
		}
	}
	out := Layer{Imbalance: s.best.level, LowerBound: min(bound, s.best.level)}
	switch {
	case s.best.level <= bound*(1+provedTolerance):
		out.Status = Proved
	case stopped:
		out.Status = Stopped
	}
	return out
}
