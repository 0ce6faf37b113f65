package eplb

import (
	"context"
	"slices"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Experts on every GPU in service take one slot each there, and their tokens,
// split evenly, load all GPUs alike. What is left is a plan of the other experts
// on the other slots, made like any other.

// everywhere is a problem, and which of its experts are everywhere.
type everywhere struct {
	p     *Problem // with Everywhere taken out
	whole Problem  // p, checked
	o     *Options
	ids   []int // the experts that are everywhere, in order
	must  []bool
	rest  []int // the other experts
}

// planEverywhere is Plan where p.Everywhere is not empty.
func planEverywhere(ctx context.Context, p Problem, o Options) (Result, error) {
	x, err := newEverywhere(&p, &o)
	if err != nil {
		return Result{}, err
	}
	small, so := p, o
	small.Replicas -= len(x.ids) * p.Topology.GPUs
	if o.Locality != ByGroup {
		small.Groups = 1
	}
	small.pick(func(w placement.Loads) placement.Loads {
		others := placement.NewLoads(len(w), len(x.rest))
		for l, row := range w {
			for k, e := range x.rest {
				others[l][k] = row[e]
			}
		}
		return others
	})
	if p.Previous != nil {
		forced := 0
		if small.Previous, forced = x.otherSlots(); o.MaxMoves > 0 {
			if so.MaxMoves -= forced; so.MaxMoves <= 0 {
				so.MaxMoves = -1
			}
		}
	}
	small.Topology.Speed = x.speedLeft()
	small.Routes, so.TrafficSlack, so.Copies = nil, 0, PerNode
	var r Result
	if len(x.rest) > 0 {
		if r, err = Plan(ctx, small, so); err != nil {
			return Result{}, err
		}
	}
	return x.expand(ctx, &r)
}

// newEverywhere checks what concerns the whole problem and fills in defaults.
func newEverywhere(p *Problem, o *Options) (*everywhere, error) {
	const field = "everywhere"
	ids := p.Everywhere
	p.Everywhere = nil
	if o.Locality == Auto {
		o.Locality = Free
	}
	whole, wo := *p, *o
	wo.TwoNodes, wo.TwoDomains = false, false // which the others have to fulfil
	if o.Locality == ByGroup {
		whole.Groups, wo.Locality, wo.OffNodeReplicas = 1, Free, 0 // of which they alone are
	}
	if o.Policy == DeepSeek {
		return nil, refuse.Errorf(placement.ErrValue, field, "policy deepseek knows no such thing: use policy optimal")
	}
	if err := validate(&whole, &wo); err != nil {
		return nil, err
	}
	o.TrafficSlack, whole.Groups = wo.TrafficSlack, p.Groups
	x := &everywhere{p: p, whole: whole, o: o, ids: slices.Sorted(slices.Values(ids)), must: make([]bool, whole.Loads.Experts())}
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
	if err := x.checkGroups(); err != nil {
		return nil, err
	}
	if len(x.rest) == 0 { // otherwise the others' problem is refused
		w, wo := whole, *o
		if err := validateTwoNodes(&w, &wo); err != nil {
			return nil, err
		}
		if err := validateDomains(&w, &wo); err != nil {
			return nil, err
		}
	}
	return x, x.checkRoom()
}

// checkRoom demands slots for those everywhere on each GPU, and for the others.
func (x *everywhere) checkRoom() error {
	room := 0
	for g, n := range placement.EvenSlots(x.p.Replicas, x.p.Topology.GPUs) {
		if n < len(x.ids) {
			return refuse.Errorf(placement.ErrFit, "everywhere", "%d experts on GPU %d, which has %d slots", len(x.ids), g, n)
		}
		if x.p.Topology.SpeedOf(g) > 0 {
			room += n - len(x.ids)
		}
	}
	if room < len(x.rest) {
		return refuse.Errorf(placement.ErrFit, "everywhere", "%d experts on every GPU leave %d slots in service for the other %d", len(x.ids), room, len(x.rest))
	}
	return nil
}

// checkGroups demands, where groups are kept on nodes, that those everywhere are no
// members of them, such as a shared expert after the routed ones: groups are then of
// the others.
func (x *everywhere) checkGroups() error {
	if x.o.Locality != ByGroup {
		return nil
	}
	n := len(x.rest)
	if n == 0 || x.rest[n-1]-x.rest[0] != n-1 || x.p.Groups > 0 && len(x.must)%x.p.Groups == 0 {
		return refuse.Errorf(placement.ErrValue, "everywhere", "members of groups, which stay on one node each: use locality none")
	}
	return nil
}

// speedLeft is what those everywhere leave of the GPUs' speeds: they load all
// GPUs alike, which takes more of a slow one. nil = all are equally fast.
func (x *everywhere) speedLeft() []float64 {
	t := &x.p.Topology
	if problem.NewUnit(t, x.p.Replicas, len(x.must)).Equal {
		return t.Speed
	}
	taken, total, speeds := 0.0, 0.0, 0.0
	for _, w := range append(x.p.Windows[:len(x.p.Windows):len(x.p.Windows)], x.p.Loads) {
		for _, row := range w {
			for e, v := range row {
				total += v
				if x.must[e] {
					taken += v
				}
			}
		}
	}
	for _, v := range t.Speed {
		speeds += v
	}
	out := slices.Clone(t.Speed)
	for g, v := range t.Speed {
		if v > 0 && total > 0 {
			out[g] = max(v-taken/total*speeds/float64(t.InService()), v/100)
		}
	}
	return out
}

// otherSlots is the placement in force without those everywhere, and how many of
// them must be copied to GPUs that lack them, over all layers. A GPU has as many slots
// as the layer with most others there takes: which of them stay is the plan's to say.
func (x *everywhere) otherSlots() (out *placement.Placement, forced int) {
	v, t := x.p.Previous, &x.p.Topology
	number := make([]int, len(x.must))
	for k, e := range x.rest {
		number[e] = k
	}
	first, slots := v.FirstSlots(), make([]int, v.GPUs)
	others := func(l, g int) (out []int, pinned int) {
		held := v.PhysicalToLogical[l][first[g]:first[g+1]]
		for i, e := range held {
			switch {
			case e < 0:
				out = append(out, -1)
			case !x.must[e]:
				out = append(out, number[e])
			case !slices.Contains(held[:i], e):
				pinned++
			}
		}
		return out, pinned
	}
	forced = len(x.ids) * t.InService() * len(v.PhysicalToLogical)
	for l := range v.PhysicalToLogical {
		for g := range slots {
			list, pinned := others(l, g)
			if slots[g] = max(slots[g], len(list)); g < t.GPUs && t.SpeedOf(g) > 0 {
				forced -= pinned
			}
		}
	}
	out = &placement.Placement{Experts: len(x.rest), GPUs: v.GPUs, GPUSlots: slots}
	for l := range v.PhysicalToLogical {
		var row []int
		for g, n := range slots {
			list, _ := others(l, g)
			row = append(append(row, list...), slices.Repeat([]int{-1}, n-len(list))...)
		}
		out.PhysicalToLogical = append(out.PhysicalToLogical, row)
	}
	return out, forced
}

// expand puts those everywhere back.
func (x *everywhere) expand(ctx context.Context, r *Result) (Result, error) {
	p := &x.whole
	out := newResult(p, x.o)
	first, was := out.Placement.FirstSlots(), []int(nil)
	if p.Previous != nil {
		was = p.Previous.FirstSlots()
	}
	for l, row := range out.Placement.PhysicalToLogical {
		small := 0
		for g := range p.Topology.GPUs {
			var experts, old []int
			if p.Topology.SpeedOf(g) > 0 {
				experts = slices.Clone(x.ids)
			}
			if len(x.rest) > 0 {
				for range first[g+1] - first[g] - len(x.ids) {
					if k := r.Placement.PhysicalToLogical[l][small]; k >= 0 {
						experts = append(experts, x.rest[k])
					}
					small++
				}
			}
			if g+1 < len(was) {
				old = p.Previous.PhysicalToLogical[l][was[g]:was[g+1]]
			}
			if n := arrange(row[first[g]:first[g+1]], experts, old, len(x.must)); p.Previous != nil {
				out.Layers[l].Moves += n
			}
		}
	}
	out.Locality = r.Locality
	t := p.Topology
	y := newPlanner(ctx, p, x.o, &t)
	x.bound(y.c.Unit, r, &out)
	y.rescore(&out)
	if p.Routes == nil {
		return out, nil
	}
	if err := validateDomains(p, x.o); err != nil {
		return out, err
	}
	y = newPlanner(ctx, p, x.o, &t)
	y.c.Bare = x.must
	y.regroup(&out)
	return out, nil
}

// arrange puts different experts into the slots of a GPU, those that were there
// where they were if that is one of the first slots, and counts those that were not.
// The other slots are empty.
func arrange(dst, experts, old []int, first int) (moves int) {
	for i := range dst {
		dst[i] = -1
	}
	for i, e := range old {
		if i < min(len(dst), first) && slices.Contains(experts, e) && !slices.Contains(dst, e) {
			dst[i] = e
		}
	}
	for _, e := range experts {
		if slices.Contains(dst, e) {
			continue
		}
		dst[slices.Index(dst, -1)] = e
		if !slices.Contains(old, e) {
			moves++
		}
	}
	return moves
}

// bound brings what was planned for the others to the whole: what those everywhere
// load each GPU with adds to the bound where GPUs are equally fast.
func (x *everywhere) bound(u *problem.Unit, r, out *Result) {
	for l, row := range x.whole.Loads {
		rest, total := 0.0, 0.0
		for e, w := range row {
			total += w
			if !x.must[e] {
				rest += w
			}
		}
		y := &out.Layers[l]
		if y.LowerBound = 1; len(x.rest) == 0 || total == 0 {
			continue
		}
		if y.Status = r.Layers[l].Status; u.Equal {
			y.LowerBound = (float64(r.Layers[l].LowerBound*rest) + (total - rest)) / total
		}
		if k := out.Locality; k != nil { // of the others: of all it is less
			k.FreeImbalance[l] = (float64(k.FreeImbalance[l]*rest) + (total - rest)) / total
			k.OffNodeShare[l] *= rest / total
		}
	}
}
