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
	shapes, loads, err := shapesOf(p, o)
	if err != nil {
		return Result{}, err
	}
	out := newResult(&Problem{Loads: loads, Replicas: p.Replicas, Topology: p.Topology}, &Options{Locality: ByGroup})
	out.Placement.LayerExperts = slices.Clone(p.LayerExperts)
	plans, most := make([]Result, len(shapes)), make([]int, len(shapes))
	left, free := len(loads), o.MaxMoves
	for k := range 2 * len(shapes) { // twice: what some have left others may need
		i := k % len(shapes)
		s, was := shapes[i], movesOf(&plans[i])
		switch {
		case k < len(shapes):
			most[i] = free * len(s.layers) / left
			left -= len(s.layers)
		case o.MaxMoves > 0 && free > 0 && was >= most[i]:
			most[i] = was + free
		default:
			continue
		}
		so := o
		if o.MaxMoves > 0 {
			if so.MaxMoves = most[i]; most[i] <= 0 {
				so.MaxMoves = -1
			}
		}
		if plans[i], err = Plan(ctx, s.problem(&p), so); err != nil {
			return Result{}, s.named(err, &p)
		}
		free -= movesOf(&plans[i]) - was
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
func shapesOf(p Problem, o Options) (out []shape, loads placement.Loads, err error) {
	if err := inTurn(&p, &o, validateLoads, validateTopology, validateRoutes, checkLists, checkReplicas, validatePrevious, validateWeights); err != nil {
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

// checkReplicas checks the most slots that a layer may have.
func checkReplicas(p *Problem, _ *Options) error {
	bad := p.Replicas < 1 || p.Replicas > placement.MaxSlots || len(p.Loads)*p.Replicas > placement.MaxCells
	return refuse.Value(bad, "num_replicas", "%d: between 1 and %d, and %d slots in all, are supported", p.Replicas, placement.MaxSlots, placement.MaxCells)
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
