package eplb

import (
	"context"
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
	shapes, loads, err := shapesOf(p)
	if err != nil {
		return Result{}, err
	}
	out := newResult(&Problem{Loads: loads, Replicas: p.Replicas, Topology: p.Topology}, &Options{Locality: ByGroup})
	out.Placement.LayerExperts = slices.Clone(p.LayerExperts)
	plans, most := make([]Result, len(shapes)), make([]int, len(shapes))
	plan := func(i int) (err error) {
		q, so := shapes[i].problem(&p), o
		if o.MaxMoves > 0 {
			so.MaxMoves = most[i]
			if most[i] <= 0 {
				so.MaxMoves = -1
			}
		}
		plans[i], err = Plan(ctx, q, so)
		return shapes[i].named(err, &p)
	}
	left, free := len(loads), o.MaxMoves
	for i, s := range shapes {
		most[i] = free * len(s.layers) / left
		if err := plan(i); err != nil {
			return Result{}, err
		}
		left -= len(s.layers)
		free -= movesOf(&plans[i])
	}
	for i := range shapes { // what some have left others may need
		if n := movesOf(&plans[i]); o.MaxMoves > 0 && free > 0 && n >= most[i] {
			most[i] = n + free
			if err := plan(i); err != nil {
				return Result{}, err
			}
			free -= movesOf(&plans[i]) - n
		}
	}
	for i, s := range shapes {
		s.into(&out, &plans[i])
	}
	return out, nil
}

// movesOf is how many moves a plan makes.
func movesOf(r *Result) (n int) {
	for _, y := range r.Layers {
		n += y.Moves
	}
	return n
}

// shapesOf checks what differs by layer, and lists the shapes in the order of their
// first layers, and the loads of all windows.
func shapesOf(p Problem) (out []shape, loads placement.Loads, err error) {
	if err := inTurn(&p, nil, validateLoads, validateTopology, checkRoutes, checkLists, checkWhole, validateWeights); err != nil {
		return nil, nil, err
	}
	experts := p.Loads.Experts()
	for l := range p.Loads {
		s := shape{experts: at(p.LayerExperts, l, experts), slots: at(p.LayerReplicas, l, p.Replicas)}
		i := slices.IndexFunc(out, func(x shape) bool { return x.experts == s.experts && x.slots == s.slots })
		if i < 0 {
			i = len(out)
			out = append(out, s)
		}
		out[i].layers = append(out[i].layers, l)
	}
	return out, p.Loads, nil
}

func validateTopology(p *Problem, _ *Options) error { return p.Topology.Validate() }

func checkRoutes(p *Problem, _ *Options) error {
	if p.Routes == nil {
		return nil
	}
	return p.Routes.Validate(len(p.Loads), p.Loads.Experts())
}

// checkLists checks the numbers of experts and slots of each layer, and that no expert
// that there is not has a load.
func checkLists(p *Problem, _ *Options) error {
	layers, experts := len(p.Loads), p.Loads.Experts()
	for _, x := range []struct {
		field string
		list  []int
		most  int
	}{{"layer_experts", p.LayerExperts, experts}, {"layer_replicas", p.LayerReplicas, p.Replicas}} {
		if x.list != nil && len(x.list) != layers {
			return refuse.Errorf(placement.ErrShape, x.field, "%d entries, but loads have %d layers", len(x.list), layers)
		}
		for l, n := range x.list {
			if n < 1 || n > x.most {
				return refuse.At(placement.ErrValue, x.field, l, -1, "%d: between 1 and %d are possible", n, x.most)
			}
		}
	}
	for l, n := range p.LayerExperts {
		for e := n; e < experts; e++ {
			if w := p.Loads[l][e]; w != 0 {
				return refuse.At(placement.ErrValue, "loads", l, e, "%v, but the layer has %d experts", w, n)
			}
		}
	}
	return nil
}

// checkWhole checks what else is told of all layers.
func checkWhole(p *Problem, _ *Options) error {
	layers, experts := len(p.Loads), p.Loads.Experts()
	switch v := p.Previous; {
	case p.Replicas < 1 || p.Replicas > placement.MaxSlots || layers*p.Replicas > placement.MaxCells:
		return refuse.Errorf(placement.ErrValue, "num_replicas", "%d: between 1 and %d, and %d slots in all, are supported", p.Replicas, placement.MaxSlots, placement.MaxCells)
	case v == nil:
	case len(v.PhysicalToLogical) != layers:
		return refuse.Errorf(placement.ErrShape, "previous", "%d layers, but loads have %d", len(v.PhysicalToLogical), layers)
	case v.LayerExperts != nil && len(v.LayerExperts) != layers:
		return refuse.Errorf(placement.ErrShape, "previous", "layer_experts of %d layers, but loads have %d", len(v.LayerExperts), layers)
	default:
		for l := range layers {
			if n := at(p.LayerExperts, l, experts); v.ExpertsOf(l) != n {
				return refuse.At(placement.ErrShape, "previous", l, -1, "%d experts, but the layer has %d", v.ExpertsOf(l), n)
			}
		}
	}
	return nil
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
	if p.LayerWeights != nil {
		q.LayerWeights = nil
		for _, l := range s.layers {
			q.LayerWeights = append(q.LayerWeights, p.LayerWeights[l])
		}
	}
	if p.Routes != nil {
		r := placement.Routes{TopK: p.Routes.TopK}
		for _, l := range s.layers {
			r.IDs = append(r.IDs, p.Routes.IDs[l])
			if p.Routes.Weights != nil {
				r.Weights = append(r.Weights, p.Routes.Weights[l])
			}
		}
		q.Routes = &r
	}
	if v := p.Previous; v != nil {
		was := placement.Placement{Experts: s.experts, GPUs: v.GPUs, GPUSlots: v.GPUSlots}
		for _, l := range s.layers {
			was.PhysicalToLogical = append(was.PhysicalToLogical, v.PhysicalToLogical[l])
		}
		q.Previous = &was
	}
	return q
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
	n, all, some := len(out.Layers), out.Placement.FirstSlots(), r.Placement.FirstSlots()
	for i, l := range s.layers {
		for g, from := range all[:len(all)-1] {
			of := r.Placement.PhysicalToLogical[i][some[g]:some[g+1]]
			for k := range all[g+1] - from {
				out.Placement.PhysicalToLogical[l][from+k] = at(of, k, -1)
			}
		}
	}
	gather(&out.Layers, r.Layers, s.layers, n)
	if from := r.Traffic; from != nil {
		if out.Traffic == nil {
			out.Traffic = &Traffic{}
		}
		to := out.Traffic
		gather(&to.Plan, from.Plan, s.layers, n)
		gather(&to.Even, from.Even, s.layers, n)
		gather(&to.Previous, from.Previous, s.layers, n)
		gather(&to.EvenImbalance, from.EvenImbalance, s.layers, n)
		gather(&to.LowerBound, from.LowerBound, s.layers, n)
		gather(&to.Moves, from.Moves, s.layers, n)
	}
	if from, to := r.Locality, out.Locality; from != nil && to != nil {
		gather(&to.Home, from.Home, s.layers, n)
		gather(&to.FreeImbalance, from.FreeImbalance, s.layers, n)
		gather(&to.OffNodeReplicas, from.OffNodeReplicas, s.layers, n)
		gather(&to.OffNodeShare, from.OffNodeShare, s.layers, n)
	} else {
		out.Locality = nil
	}
}

// gather puts figures of some layers, if there are any, among those of all n.
func gather[T any](to *[]T, from []T, layers []int, n int) {
	if from == nil {
		return
	}
	if *to == nil {
		*to = make([]T, n)
	}
	for i, l := range layers {
		(*to)[l] = from[i]
	}
}
