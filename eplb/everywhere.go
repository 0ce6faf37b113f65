package eplb

import (
	"cmp"
	"context"
	"slices"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Experts on every GPU in service take one slot each there, and their tokens,
// split evenly, load all GPUs alike. What is left is a plan of the other experts
// on the other slots, made like any other.

// everywhere is a checked problem, and which of its experts are everywhere.
type everywhere struct {
	p    Problem // without Everywhere
	o    Options
	ids  []int // the experts that are everywhere, in order
	must []bool
	rest []int // the other experts
}

// planEverywhere is Plan where p.Everywhere is not empty.
func planEverywhere(ctx context.Context, p Problem, o Options) (Result, error) {
	t := p.Topology
	if o.Locality == Auto {
		o.Locality = Free
	}
	x, err := newEverywhere(p, o)
	if err != nil {
		return Result{}, err
	}
	y := newPlanner(ctx, &x.p, &x.o, &t)
	y.c.Bare = x.must
	var r Result
	if len(x.rest) > 0 {
		x.others(&p, &o, y.c.Unit)
		if r, err = Plan(ctx, p, o); err != nil {
			return Result{}, err
		}
	}
	return y.finish(x.expand(y, &r), true), nil
}

// newEverywhere checks what concerns the whole problem and fills in defaults.
func newEverywhere(p Problem, o Options) (*everywhere, error) {
	const field = "everywhere"
	ids, groups, locality, off := p.Everywhere, p.Groups, o.Locality, o.OffNodeReplicas
	if o.Policy == DeepSeek {
		return nil, refuse.Errorf(placement.ErrValue, field, "policy deepseek knows no such thing: use policy optimal")
	}
	if p.Everywhere = nil; locality == ByGroup { // groups are of the others, whose plan is checked for them
		p.Groups, o.Locality, o.OffNodeReplicas = 1, Free, 0
	}
	if err := validate(&p, &o); err != nil {
		return nil, err
	}
	p.Groups, o.Locality, o.OffNodeReplicas = groups, locality, off
	x := &everywhere{p: p, o: o, ids: slices.Sorted(slices.Values(ids)), must: make([]bool, p.Loads.Experts())}
	for i, e := range ids {
		switch {
		case e < 0 || e >= len(x.must):
			return nil, refuse.At(placement.ErrValue, field, -1, i, "expert %d: there are %d", e, len(x.must))
		case x.must[e]:
			return nil, refuse.At(placement.ErrValue, field, -1, i, "expert %d stands twice", e)
		}
		x.must[e] = true
	}
	for e, must := range x.must {
		if !must {
			x.rest = append(x.rest, e)
		}
	}
	room, n := 0, len(x.rest)
	for g, slots := range placement.EvenSlots(p.Replicas, p.Topology.GPUs) {
		if slots < len(ids) {
			return nil, refuse.Errorf(placement.ErrFit, field, "%d experts on GPU %d, which has %d slots", len(ids), g, slots)
		}
		if p.Topology.SpeedOf(g) > 0 {
			room += slots - len(ids)
		}
	}
	// Such as a shared expert after the routed ones, where groups stay on nodes.
	apart := n > 0 && x.rest[n-1]-x.rest[0] == n-1 && !(groups > 0 && len(x.must)%groups == 0)
	return x, cmp.Or(
		refuse.Value(locality == ByGroup && !apart, field, "members of groups, which stay on one node each: use locality none"),
		refuse.Fit(room < n, field, "%d experts on every GPU leave %d slots in service for the other %d", len(ids), room, n),
	)
}

// others makes of the whole problem, on u, that of the other experts.
func (x *everywhere) others(p *Problem, o *Options, u *problem.Unit) {
	p.Everywhere, p.Routes, o.TrafficSlack, o.Copies = nil, nil, 0, PerNode
	if p.Replicas -= len(x.ids) * p.Topology.GPUs; o.Locality != ByGroup {
		p.Groups = 1
	}
	p.pick(func(w placement.Loads) placement.Loads {
		others := placement.NewLoads(len(w), len(x.rest))
		for l, row := range w {
			for k, e := range x.rest {
				others[l][k] = row[e]
			}
		}
		return others
	})
	if !u.Equal {
		p.Topology.Speed = x.speedLeft(u)
	}
	if p.Previous != nil {
		forced := 0
		if p.Previous, forced = x.otherSlots(u); o.MaxMoves > 0 {
			if o.MaxMoves -= forced; o.MaxMoves <= 0 {
				o.MaxMoves = -1
			}
		}
	}
}

// shares are the load of the other experts in a layer, and of all.
func (x *everywhere) shares(l int) (rest, total float64) {
	for e, w := range x.p.Loads[l] {
		total += w
		if !x.must[e] {
			rest += w
		}
	}
	return rest, total
}

// leastSpeed is the least that a GPU in service may have.
const leastSpeed = 1e-6

// speedLeft is what those everywhere leave of the GPUs' speeds: they load all
// GPUs alike, which takes more of a slow one.
func (x *everywhere) speedLeft(u *problem.Unit) []float64 {
	rest, total := 0.0, 0.0
	for l := range x.p.Loads {
		some, all := x.shares(l)
		rest, total = rest+some, total+all
	}
	out := make([]float64, x.p.Topology.GPUs)
	for k, gpu := range u.Gpu {
		if out[gpu] = u.Speed[k]; total > 0 { // the mean is 1
			out[gpu] = max(u.Speed[k]-(total-rest)/total, u.Speed[k]/100, leastSpeed)
		}
	}
	return out
}

// otherSlots is the placement in force without those everywhere, and how many of
// them must be copied to GPUs of u that lack them, over all layers.
func (x *everywhere) otherSlots(u *problem.Unit) (out *placement.Placement, forced int) {
	v, number := x.p.Previous, make([]int, len(x.must))
	for _, e := range x.ids {
		number[e] = -1
	}
	for k, e := range x.rest {
		number[e] = k
	}
	first := v.FirstSlots()
	out = &placement.Placement{Experts: len(x.rest), GPUs: v.GPUs, GPUSlots: v.GPUSlots, PhysicalToLogical: rows[int](len(v.PhysicalToLogical), v.Slots())}
	for l, row := range v.PhysicalToLogical {
		for i, e := range row {
			if out.PhysicalToLogical[l][i] = -1; e >= 0 {
				out.PhysicalToLogical[l][i] = number[e]
			}
		}
		for _, gpu := range u.Gpu {
			for _, e := range x.ids {
				if gpu >= v.GPUs || !slices.Contains(row[first[gpu]:first[gpu+1]], e) {
					forced++
				}
			}
		}
	}
	return out, forced
}

// expand puts those everywhere beside the others that r places.
func (x *everywhere) expand(y *planner, r *Result) Result {
	out, g, u := newResult(&x.p, &x.o), newRegrouper(y), y.c.Unit
	first := r.Placement.FirstSlots()
	for l := range out.Layers {
		for k, gpu := range u.Gpu {
			to := g.slot[u.First[k]:u.First[k]]
			for _, e := range x.ids {
				to = append(to, int32(e))
			}
			if len(x.rest) > 0 {
				for _, e := range r.Placement.PhysicalToLogical[l][first[gpu]:first[gpu+1]] {
					if e >= 0 {
						to = append(to, int32(x.rest[e]))
					}
				}
			}
			for len(to) < u.Room(k) {
				to = append(to, -1)
			}
		}
		g.give(l, &out)
		x.bound(l, u.Equal, r, &out)
	}
	return out
}

// bound brings what was planned for the others to the whole: what those everywhere
// load each GPU with adds to the bound where GPUs are equally fast.
func (x *everywhere) bound(l int, equal bool, r, out *Result) {
	y := &out.Layers[l]
	y.LowerBound = 1
	rest, total := x.shares(l)
	if len(x.rest) == 0 || total == 0 {
		return
	}
	if y.Status = r.Layers[l].Status; equal {
		y.LowerBound = (float64(r.Layers[l].LowerBound*rest) + (total - rest)) / total
	}
	if k := out.Locality; k != nil { // of the others: of all it is less
		k.FreeImbalance[l] = (float64(r.Locality.FreeImbalance[l]*rest) + (total - rest)) / total
	}
}
