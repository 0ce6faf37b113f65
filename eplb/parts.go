package eplb

import (
	"cmp"
	"context"
	"reflect"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Layers of unlike shapes and experts on every GPU are planned by parts, each of which is
// a problem like any other: layers of as many experts and slots, or the experts that are
// not everywhere on the slots that those leave.

// part is some layers of a problem and some of its experts, by their numbers there.
type part struct{ layers, experts []int }

// upTo is 0..n-1.
func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// problem is that of the part alone, on so many slots.
func (x *part) problem(p Problem, slots int, lift bool) Problem {
	var windows []placement.Loads
	for _, w := range p.Windows {
		of := placement.NewLoads(len(x.layers), len(x.experts))
		for i, l := range x.layers {
			for k, e := range x.experts {
				of[i][k] = w[l][e]
			}
		}
		windows = append(windows, of)
	}
	p.setWindows(windows, lift)
	p.Replicas, p.LayerExperts, p.LayerReplicas = slots, nil, nil
	p.LayerWeights = some(p.LayerWeights, x.layers)
	if r := p.Routes; r != nil {
		p.Routes = &placement.Routes{TopK: r.TopK, IDs: some(r.IDs, x.layers), Weights: some(r.Weights, x.layers)}
	}
	if v := p.Previous; v != nil {
		number := slices.Repeat([]int{-1}, v.Experts)
		for k, e := range x.experts {
			number[e] = k
		}
		p.Previous = &placement.Placement{Experts: len(x.experts), GPUs: v.GPUs, GPUSlots: v.GPUSlots}
		for _, row := range some(v.PhysicalToLogical, x.layers) {
			p.Previous.PhysicalToLogical = append(p.Previous.PhysicalToLogical, renamed(row, number))
		}
	}
	return p
}

// some are the entries of some layers of a list, if there is one.
func some[T any](list []T, layers []int) (out []T) {
	for _, l := range layers[:min(len(layers), len(list))] {
		out = append(out, list[l])
	}
	return out
}

// renamed are slots whose experts have other numbers.
func renamed(slots, number []int) []int {
	out := make([]int, len(slots))
	for i, e := range slots {
		if out[i] = -1; e >= 0 {
			out[i] = number[e]
		}
	}
	return out
}

// into puts a plan of the part into that of all: its slots are the first of a GPU's,
// but for those of experts that come before, and the others are empty.
func (x *part) into(out, r *Result, before []int) {
	all, some := out.Placement.FirstSlots(), r.Placement.FirstSlots()
	for i, l := range x.layers {
		row := renamed(r.Placement.PhysicalToLogical[i], x.experts)
		for g := range out.Placement.GPUs {
			to := out.Placement.PhysicalToLogical[l][all[g]:all[g+1]]
			n := copy(to, before)
			for k := n + copy(to[n:], row[some[g]:some[g+1]]); k < len(to); k++ {
				to[k] = -1
			}
		}
	}
	gather(reflect.ValueOf(out).Elem(), reflect.ValueOf(r).Elem(), x.layers, len(out.Layers))
}

// gather puts the figures of some layers, which are all lists of a report and of what it
// points to, among those of all n.
func gather(to, from reflect.Value, layers []int, n int) {
	for i := range from.NumField() {
		all, some := to.Field(i), from.Field(i)
		switch {
		case some.Kind() == reflect.Pointer && !some.IsNil():
			if all.IsNil() {
				all.Set(reflect.New(all.Type().Elem()))
			}
			gather(all.Elem(), some.Elem(), layers, n)
		case some.Kind() == reflect.Slice && !some.IsNil():
			if all.IsNil() {
				all.Set(reflect.MakeSlice(all.Type(), n, n))
			}
			for k, l := range layers {
				all.Index(l).Set(some.Index(k))
			}
		}
	}
}

// planShapes is Plan where p.LayerExperts or p.LayerReplicas is given: layers of as many
// experts and slots are a part.
func planShapes(ctx context.Context, p Problem, o Options) (Result, error) {
	type shape struct{ experts, slots int }
	var shapes []shape // in the order of their first layers
	layers := map[shape][]int{}
	for l, row := range p.Loads {
		s := shape{at(p.LayerExperts, l, len(row)), at(p.LayerReplicas, l, p.Replicas)}
		if layers[s] == nil {
			shapes = append(shapes, s)
		}
		layers[s] = append(layers[s], l)
	}
	out := newResult(&p, &Options{})
	out.Placement.LayerExperts = slices.Clone(p.LayerExperts)
	left, free, kept := len(p.Loads), o.MaxMoves, true
	for _, s := range shapes {
		x, so, n := part{layers[s], upTo(s.experts)}, o, len(layers[s])
		if o.MaxMoves > 0 { // what a shape leaves, later ones have
			so.MaxMoves = budget(free/left*n + free%left*n/left)
		}
		r, err := planAlike(ctx, x.problem(p, s.slots, false), so)
		if err != nil {
			return Result{}, refuse.Edit(err, func(e *placement.Error) {
				if e.Layer = x.layers[0]; e.Field == "num_replicas" && p.LayerReplicas != nil {
					e.Field = "layer_replicas"
				}
			})
		}
		x.into(&out, &r, nil)
		left, kept = left-n, kept && r.Locality != nil
		for _, y := range r.Layers {
			free -= y.Moves
		}
	}
	if !kept { // by none or by some
		out.Locality = nil
	}
	return out, nil
}

// at is an entry of a list, or what stands for those of none.
func at(list []int, i, other int) int {
	if list == nil {
		return other
	}
	return list[i]
}

// budget is MaxMoves where so many moves are left of some.
func budget(left int) int { return cmp.Or(max(left, 0), -1) }
