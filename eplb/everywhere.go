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

// planEverywhere is Plan where p.Everywhere is not empty: the other experts are a part.
func planEverywhere(ctx context.Context, p Problem, o Options) (Result, error) {
	all, asked, t := p, o, p.Topology
	must, rest, err := validateEverywhere(&all, &asked)
	if err != nil {
		return Result{}, err
	}
	ids := slices.Sorted(slices.Values(p.Everywhere))
	others := part{upTo(len(all.Loads)), rest}
	y := newPlanner(ctx, &all, &asked, &t)
	y.c.Bare = must
	u, loads := y.c.Unit, others.loads(all.Loads)
	r := Result{Placement: placement.Placement{GPUs: t.GPUs, PhysicalToLogical: rows[int](len(loads), 0)}}
	if len(rest) > 0 {
		if !u.Equal {
			p.Topology.Speed = speedLeft(u, t.GPUs, loads, all.Loads)
		}
		if o.MaxMoves > 0 {
			o.MaxMoves = budget(o.MaxMoves - missing(p.Previous, u, ids))
		}
		if o.Locality != ByGroup {
			o.Locality, p.Groups = Free, 1
		}
		p.Windows, p.Everywhere, p.Routes, o.TrafficSlack, o.Copies = all.Windows, nil, nil, 0, PerNode
		if r, err = Plan(ctx, others.problem(p, p.Replicas-len(ids)*t.GPUs), o); err != nil {
			return Result{}, err
		}
	}
	out, g := newResult(&all, &asked), newRegrouper(y)
	others.into(&out, &r, ids)
	for l := range out.Layers {
		u.Read(out.Placement.PhysicalToLogical[l], g.slot)
		g.give(l, &out)
		// What those everywhere load each GPU with adds to what was planned for the others,
		// to the bound where GPUs are equally fast.
		some, sum := problem.Sum(loads[l]), problem.Sum(all.Loads[l])
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
	return y.finish(out), nil
}

// validateEverywhere checks what concerns the whole problem, fills in defaults, says of
// each expert whether it is everywhere and lists the others.
func validateEverywhere(p *Problem, o *Options) (must []bool, rest []int, err error) {
	const field = "everywhere"
	if o.Policy == DeepSeek {
		return nil, nil, refuse.Errorf(placement.ErrValue, field, "policy deepseek knows no such thing: use policy optimal")
	}
	ids, groups, off, kept, nodes := p.Everywhere, p.Groups, o.OffNodeReplicas, o.Locality == ByGroup, p.Topology.NodeCount()
	if o.Locality = cmp.Or(o.Locality, Free); kept { // groups are of the others, whose plan is checked for them
		p.Groups, o.Locality, o.OffNodeReplicas = 1, Free, 0
	}
	if err := validate(p, o); err != nil {
		return nil, nil, err
	}
	if kept && nodes > 1 {
		p.Groups, o.Locality, o.OffNodeReplicas = groups, ByGroup, off
	}
	must = make([]bool, p.Loads.Experts())
	for i, e := range ids {
		switch {
		case e < 0 || e >= len(must):
			return nil, nil, refuse.At(placement.ErrValue, field, -1, i, "expert %d: there are %d", e, len(must))
		case must[e]:
			return nil, nil, refuse.At(placement.ErrValue, field, -1, i, "expert %d stands twice", e)
		}
		must[e] = true
	}
	rest = slices.DeleteFunc(upTo(len(must)), func(e int) bool { return must[e] })
	n, gpus := len(rest), p.Topology.GPUs
	room := problem.NewUnit(&p.Topology, p.Replicas, len(must)).Slots - len(ids)*p.Topology.InService()
	// Such as a shared expert after the routed ones, where groups stay on nodes.
	apart := n > 0 && rest[n-1]-rest[0] == n-1 && !(groups > 0 && len(must)%groups == 0)
	return must, rest, cmp.Or(
		refuse.Fit(p.Replicas/gpus < len(ids), field, "%d experts on GPU %d, which has %d slots", len(ids), gpus-1, p.Replicas/gpus),
		refuse.Value(kept && !apart, field, "members of groups, which stay on one node each: use locality none"),
		refuse.Fit(room < n, field, "%d experts on every GPU leave %d slots in service for the other %d", len(ids), room, n),
	)
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
