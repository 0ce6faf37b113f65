package eplb

import (
	"context"
	"reflect"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Layers of different shapes are planned shape by shape: those of as many experts
// and slots are a problem of their own.

// shape is layers of as many experts and slots.
type shape struct {
	experts, slots int
	layers         []int
}

// planShapes is Plan where p.LayerExperts or p.LayerReplicas is given.
func planShapes(ctx context.Context, p Problem, o Options) (Result, error) {
	whole := p
	if err := inTurn(&whole, &o, validateLoads, validateTopology, validateRoutes, validateNumbers, validateLayers, validatePrevious); err != nil {
		return Result{}, err
	}
	var shapes []shape // in the order of their first layers
	for l, row := range whole.Loads {
		s := shape{experts: at(p.LayerExperts, l, len(row)), slots: at(p.LayerReplicas, l, p.Replicas)}
		i := slices.IndexFunc(shapes, func(x shape) bool { return x.experts == s.experts && x.slots == s.slots })
		if i < 0 {
			i = len(shapes)
			shapes = append(shapes, s)
		}
		shapes[i].layers = append(shapes[i].layers, l)
	}
	out := newResult(&whole, &Options{})
	out.Placement.LayerExperts = slices.Clone(p.LayerExperts)
	left, free, kept := len(whole.Loads), o.MaxMoves, true
	for _, s := range shapes {
		so, n := o, len(s.layers)
		if o.MaxMoves > 0 { // what a shape leaves, later ones have
			if so.MaxMoves = free/left*n + free%left*n/left; so.MaxMoves <= 0 {
				so.MaxMoves = -1
			}
		}
		r, err := Plan(ctx, s.problem(&p), so)
		if err != nil {
			return Result{}, s.named(err, &p)
		}
		s.into(&out, &r)
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

// at is an entry of a list, or what stands for those that it does not have.
func at(list []int, i, other int) int {
	if i >= len(list) {
		return other
	}
	return list[i]
}

// problem is that of the shape's layers alone.
func (s *shape) problem(p *Problem) Problem {
	q := *p
	q.LayerExperts, q.LayerReplicas, q.Replicas = nil, nil, s.slots
	q.pick(func(w placement.Loads) (out placement.Loads) {
		for _, l := range s.layers {
			out = append(out, w[l][:s.experts])
		}
		return out
	})
	q.LayerWeights = some(p.LayerWeights, s.layers)
	if r := p.Routes; r != nil {
		q.Routes = &placement.Routes{TopK: r.TopK, IDs: some(r.IDs, s.layers), Weights: some(r.Weights, s.layers)}
	}
	if v := p.Previous; v != nil {
		q.Previous = &placement.Placement{Experts: s.experts, GPUs: v.GPUs, GPUSlots: v.GPUSlots, PhysicalToLogical: some(v.PhysicalToLogical, s.layers)}
	}
	return q
}

// some are the entries of some layers of a list, if there is one.
func some[T any](list []T, layers []int) (out []T) {
	for _, l := range layers[:min(len(layers), len(list))] {
		out = append(out, list[l])
	}
	return out
}

// pick keeps what part returns of the loads, or of those of each window.
func (p *Problem) pick(part func(placement.Loads) placement.Loads) {
	if p.Windows == nil {
		p.Loads = part(p.Loads)
		return
	}
	windows := p.Windows
	p.Windows = make([]placement.Loads, len(windows))
	for k, w := range windows {
		p.Windows[k] = part(w)
	}
}

// named names an error's layer by its number in the whole problem, the shape's first
// where it is about all of them, and the field that gave it its slots.
func (s *shape) named(err error, p *Problem) error {
	return refuse.Edit(err, func(e *placement.Error) {
		e.Layer = s.layers[min(max(e.Layer, 0), len(s.layers)-1)]
		if e.Field == "num_replicas" && p.LayerReplicas != nil {
			e.Field = "layer_replicas"
		}
	})
}

// into puts a plan of the shape's layers into that of all: a GPU's slots are the
// first of those that it has there.
func (s *shape) into(out, r *Result) {
	all, some := out.Placement.FirstSlots(), r.Placement.FirstSlots()
	for i, l := range s.layers {
		for g, from := range all[:len(all)-1] {
			of := r.Placement.PhysicalToLogical[i][some[g]:some[g+1]]
			for k := range all[g+1] - from {
				out.Placement.PhysicalToLogical[l][from+k] = at(of, k, -1)
			}
		}
	}
	gather(reflect.ValueOf(out).Elem(), reflect.ValueOf(r).Elem(), s.layers, len(out.Layers))
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
