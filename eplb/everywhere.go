package eplb

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// Experts on every GPU in service take one slot each there, and their tokens,
// split evenly, load all GPUs alike. What is left is a plan of the other experts
// on the other slots, made like any other.

// bare says of each expert whether it is everywhere; nil = none is.
func (p *Problem) bare() []bool {
	if len(p.Everywhere) == 0 {
		return nil
	}
	out := make([]bool, p.Loads.Experts())
	for _, e := range p.Everywhere {
		out[e] = true
	}
	return out
}

// others lists the experts that are not everywhere.
func (p *Problem) others() []int {
	bare := p.bare()
	return slices.DeleteFunc(upTo(p.Loads.Experts()), func(e int) bool { return bare != nil && bare[e] })
}

// everywhere plans the other experts and puts those of p.Everywhere beside them.
func (x *planner) everywhere() Result {
	u, ids, layers := x.c.Unit, slices.Sorted(slices.Values(x.p.Everywhere)), upTo(len(x.p.Loads))
	rest := part{layers, x.p.others()}
	others := rest.problem(*x.p, x.p.Replicas-len(ids)*x.t.GPUs, true)
	r := Result{Placement: placement.Placement{GPUs: x.t.GPUs, PhysicalToLogical: rows[int](len(layers), 0)}}
	if len(rest.experts) > 0 {
		o, t := *x.o, *x.t
		if !u.Equal {
			t.Speed = speedLeft(u, t.GPUs, others.Loads, x.p.Loads)
		}
		if o.MaxMoves > 0 {
			o.MaxMoves = budget(o.MaxMoves - missing(x.p.Previous, u, ids))
		}
		others.Topology.Speed, others.Everywhere, others.Routes = t.Speed, nil, nil
		r = newPlanner(x.ctx, &others, &o, &t).plan()
	}
	out, g := newResult(x.p, x.o), newRegrouper(x)
	rest.into(&out, &r, ids)
	for l := range layers {
		u.Read(out.Placement.PhysicalToLogical[l], g.slot)
		g.give(l, &out)
		// What those everywhere load each GPU with adds to what was planned for the others,
		// to the bound where GPUs are equally fast.
		some, sum := problem.Sum(others.Loads[l]), problem.Sum(x.p.Loads[l])
		whole := func(level float64) float64 { return (float64(level*some) + (sum - some)) / sum }
		if bound := &out.Layers[l].LowerBound; sum > 0 && u.Equal {
			*bound = whole(*bound)
		} else {
			*bound = 1
		}
		if k := out.Locality; k != nil && sum > 0 { // of all it is less
			k.FreeImbalance[l] = whole(k.FreeImbalance[l])
		}
	}
	return out
}

// leastSpeed is the least that a GPU in service may have.
const leastSpeed = 1e-6

// speedLeft is what those everywhere, with what is not of the rest, leave of the speeds of
// u: they load all GPUs alike, which takes more of a slow one.
func speedLeft(u *problem.Unit, gpus int, rest, all placement.Loads) []float64 {
	some, sum := 0.0, 0.0
	for l := range all {
		some, sum = some+problem.Sum(rest[l]), sum+problem.Sum(all[l])
	}
	out := make([]float64, gpus)
	for k, gpu := range u.Gpu { // the mean is 1
		out[gpu] = max(u.Speed[k]-(sum-some)/cmp.Or(sum, 1), u.Speed[k]/100, leastSpeed)
	}
	return out
}

// missing is how many of those everywhere GPUs of u lack in a placement, over all layers.
func missing(v *placement.Placement, u *problem.Unit, ids []int) (n int) {
	first := v.FirstSlots()
	for _, row := range v.PhysicalToLogical {
		for _, gpu := range u.Gpu {
			for _, e := range ids {
				if gpu >= v.GPUs || !slices.Contains(row[first[gpu]:first[gpu+1]], e) {
					n++
				}
			}
		}
	}
	return n
}
