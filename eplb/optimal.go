package eplb

import (
	"github.com/moelb/moelb/eplb/internal/fresh"
	"github.com/moelb/moelb/eplb/internal/homes"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// fresh plans every layer by itself from scratch, Workers at a time.
func (x *planner) fresh() Result {
	r := newResult(x.p, x.o)
	inParallel(x.o.Workers, len(x.p.Loads), func() func(l int) {
		f := fresh.New(x.c)
		return func(l int) {
			f.SetLayer(x.ctx, l)
			f.Make()
			r.put(x.c, l, f.Slot)
			r.Layers[l] = newLayer(f.Level, f.Bound, 0, x.stopped())
			if r.Locality != nil {
				r.Locality.FreeImbalance[l] = f.Free
			}
		}
	})
	return r
}

// newResult is an empty result of p's shape.
func newResult(p *Problem, o *Options) Result {
	layers := len(p.Loads)
	r := Result{
		Placement: placement.Placement{Experts: p.Loads.Experts(), GPUs: p.Topology.GPUs, PhysicalToLogical: rows[int](layers, p.Replicas)},
		Layers:    make([]Layer, layers),
	}
	if p.Replicas%p.Topology.GPUs != 0 {
		r.Placement.GPUSlots = placement.EvenSlots(p.Replicas, p.Topology.GPUs)
	}
	if o.Locality == ByGroup {
		r.Locality = &LocalityPrice{
			Home: rows[int](layers, p.Groups), FreeImbalance: make([]float64, layers),
			OffNodeReplicas: make([]int, layers), OffNodeShare: make([]float64, layers),
		}
	}
	return r
}

// rows are n rows of one size, in one piece of memory.
func rows[T int | float64](n, size int) [][]T {
	cells, out := make([]T, n*size), make([][]T, n)
	for i := range out {
		out[i] = cells[i*size : (i+1)*size : (i+1)*size]
	}
	return out
}

// put puts experts into the slots of layer l.
func (r *Result) put(c *problem.Problem, l int, slot []int32) {
	c.Unit.Write(slot, r.Placement.PhysicalToLogical[l])
	if to := r.Locality; to != nil {
		to.Home[l], to.OffNodeReplicas[l], to.OffNodeShare[l] = homes.Away(c, l, slot)
	}
}

// newLayer is the report of a layer.
func newLayer(level, bound float64, moves int, stopped bool) Layer {
	level, bound = max(level, 1), max(bound, 1) // rounding may make less of them
	out := Layer{Imbalance: level, LowerBound: min(bound, level), Moves: moves}
	switch {
	case level <= bound*(1+pack.ProvedTolerance):
		out.Status = Proved
	case stopped:
		out.Status = Stopped
	}
	return out
}
