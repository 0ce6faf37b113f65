package eplb

import (
	"cmp"
	"context"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// planShapes is Plan where p.LayerExperts or p.LayerReplicas is given: layers of as many
// experts and slots are a part.
func planShapes(ctx context.Context, p Problem, o Options) (Result, error) {
	if err := inTurn(&p, &o, validateLoads, validateTopology, validateRoutes, validateNumbers, validateLayers, validatePrevious); err != nil {
		return Result{}, err
	}
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
	left, free, kept, field := len(p.Loads), o.MaxMoves, true, "num_replicas"
	if p.LayerReplicas != nil {
		field = "layer_replicas"
	}
	p.LayerExperts, p.LayerReplicas = nil, nil
	for _, s := range shapes {
		x, so, n := part{layers[s], upTo(s.experts)}, o, len(layers[s])
		if o.MaxMoves > 0 { // what a shape leaves, later ones have
			so.MaxMoves = budget(free/left*n + free%left*n/left)
		}
		r, err := Plan(ctx, x.problem(p, s.slots), so)
		if err != nil {
			return Result{}, x.named(err, field)
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

// named names an error's layer by its number in the whole problem, the first one where it
// is about all of them, and the field that gave it its slots.
func (x *part) named(err error, slots string) error {
	return refuse.Edit(err, func(e *placement.Error) {
		e.Layer = x.layers[min(max(e.Layer, 0), len(x.layers)-1)]
		if e.Field == "num_replicas" {
			e.Field = slots
		}
	})
}
