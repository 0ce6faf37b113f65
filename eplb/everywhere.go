package eplb

import (
	"context"
	"fmt"
	"slices"

	"github.com/moelb/moelb/eplb/internal/divide"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Experts on every GPU in service take one slot each there, and their tokens,
// split evenly, load all GPUs alike. What is left is a plan of the other experts
// on the other slots, made like any other.

// everywhere is a problem, and which of its experts are everywhere.
type everywhere struct {
	p    *Problem // with Everywhere taken out
	o    *Options
	must []bool
	rest []int // the other experts
	each int   // experts that are everywhere
}

// planEverywhere is Plan where p.Everywhere is not empty.
func planEverywhere(ctx context.Context, p Problem, o Options) (Result, error) {
	x, err := newEverywhere(&p, &o)
	if err != nil {
		return Result{}, err
	}
	small, so := p, o
	small.Replicas -= x.each * p.Topology.GPUs
	if o.Locality != ByGroup {
		small.Groups = 1
	}
	if p.Windows == nil {
		small.Loads = x.others(p.Loads)
	} else {
		small.Windows = make([]placement.Loads, len(p.Windows))
		for k, w := range p.Windows {
			small.Windows[k] = x.others(w)
		}
	}
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
	o.TrafficSlack = wo.TrafficSlack
	x := &everywhere{p: p, o: o, must: make([]bool, whole.Loads.Experts()), each: len(ids)}
	for i, e := range ids {
		bad := &placement.Error{Field: field, Layer: -1, Index: i, Kind: placement.ErrValue}
		switch {
		case e < 0 || e >= len(x.must):
			bad.Detail = fmt.Sprintf("expert %d: there are %d", e, len(x.must))
			return nil, bad
		case x.must[e]:
			bad.Detail = fmt.Sprintf("expert %d stands twice", e)
			return nil, bad
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
		if n < x.each {
			return refuse.Errorf(placement.ErrFit, "everywhere", "%d experts on GPU %d, which has %d slots", x.each, g, n)
		}
		if x.p.Topology.SpeedOf(g) > 0 {
			room += n - x.each
		}
	}
	if room < len(x.rest) {
		return refuse.Errorf(placement.ErrFit, "everywhere", "%d experts on every GPU leave %d slots in service for the other %d", x.each, room, len(x.rest))
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
	if problem.NewUnit(t, x.p.Replicas, len(x.must), nil).Equal {
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

// others leaves out the loads of those everywhere.
func (x *everywhere) others(l placement.Loads) placement.Loads {
	out := placement.NewLoads(len(l), len(x.rest))
	for i, row := range l {
		for k, e := range x.rest {
			out[i][k] = row[e]
		}
	}
	return out
}

// otherSlots is the placement in force without those everywhere, and how many of
// them must be copied to GPUs that lack them, over all layers.
func (x *everywhere) otherSlots() (out *placement.Placement, forced int) {
	v, t := x.p.Previous, &x.p.Topology
	first := v.FirstSlots()
	out = &placement.Placement{Experts: len(x.rest), GPUs: v.GPUs, GPUSlots: make([]int, v.GPUs)}
	for g := range out.GPUSlots {
		out.GPUSlots[g] = max(0, first[g+1]-first[g]-x.each)
	}
	number := make([]int, len(x.must))
	for k, e := range x.rest {
		number[e] = k
	}
	for l, row := range v.PhysicalToLogical {
		count := v.LogicalCount()[l]
		var kept []int
		for g := range max(v.GPUs, t.GPUs) {
			var old []int
			if g < v.GPUs {
				old = row[first[g]:first[g+1]]
			}
			lack := x.each
			var others []int
			for i, e := range old {
				switch {
				case e >= 0 && slices.Index(old, e) < i: // a second copy here is none
					others = append(others, -1)
				case e >= 0 && x.must[e]:
					lack--
				case e >= 0:
					others = append(others, number[e])
				default:
					others = append(others, -1)
				}
			}
			if g < t.GPUs && t.SpeedOf(g) > 0 {
				forced += lack
			}
			if g < v.GPUs {
				kept = append(kept, x.makeRoom(others, out.GPUSlots[g], count)...)
			}
		}
		out.PhysicalToLogical = append(out.PhysicalToLogical, kept)
	}
	return out, forced
}

// makeRoom leaves so many of the slots of a GPU: those that are empty go first,
// then those whose expert has most replicas.
func (x *everywhere) makeRoom(slot []int, room int, count []int) []int {
	for len(slot) > room {
		out := slices.Index(slot, -1)
		if out < 0 {
			out = 0
			for i, k := range slot {
				if count[x.rest[k]] > count[x.rest[slot[out]]] {
					out = i
				}
			}
			count[x.rest[slot[out]]]--
		}
		slot = slices.Delete(slot, out, out+1)
	}
	return slot
}

// expand puts those everywhere back.
func (x *everywhere) expand(ctx context.Context, r *Result) (Result, error) {
	p := x.p
	if p.Topology.Nodes == 0 {
		p.Topology.Nodes = p.Topology.NodeCount()
	}
	whole := *p
	if p.Windows != nil {
		if err := validateWindows(&whole, x.o); err != nil {
			return Result{}, err
		}
	}
	out := newResult(&whole, x.o)
	count := placement.EvenSlots(p.Replicas, p.Topology.GPUs)
	var first []int
	if p.Previous != nil {
		first = p.Previous.FirstSlots()
	}
	for l, row := range out.Placement.PhysicalToLogical {
		at, small := 0, 0
		for g, n := range count {
			var others, old []int
			if len(x.rest) > 0 {
				others = r.Placement.PhysicalToLogical[l][small : small+n-x.each]
				small += n - x.each
			}
			if p.Previous != nil && g < p.Previous.GPUs {
				old = p.Previous.PhysicalToLogical[l][first[g]:first[g+1]]
			}
			if n := arrange(row[at:at+n], x.on(g, others), old); p.Previous != nil {
				out.Layers[l].Moves += n
			}
			at += n
		}
	}
	out.Locality = r.Locality
	if err := x.score(&whole, r, &out); err != nil || p.Routes == nil {
		return out, err
	}
	t := whole.Topology
	if err := validateDomains(&whole, x.o); err != nil {
		return out, err
	}
	return out, regroup(ctx, &whole, x.o, &t, x.must, &out)
}

// on lists what GPU g holds beside the others that it was given: -1 = nothing.
func (x *everywhere) on(g int, others []int) (experts []int) {
	if x.p.Topology.SpeedOf(g) > 0 {
		for e, must := range x.must {
			if must {
				experts = append(experts, e)
			}
		}
	}
	for _, k := range others {
		if k >= 0 {
			experts = append(experts, x.rest[k])
		}
	}
	return experts
}

// arrange puts different experts into the slots of a GPU, those that were there
// where they were, and counts the others. The other slots are empty.
func arrange(dst, experts, old []int) (moves int) {
	for i := range dst {
		dst[i] = -1
	}
	for i, e := range old {
		if i < len(dst) && slices.Contains(experts, e) && !slices.Contains(dst, e) {
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

// score fills in the layers of a whole plan. What those everywhere load each GPU
// with adds to the bound of the rest where GPUs are equally fast.
func (x *everywhere) score(whole *Problem, r, out *Result) error {
	windows := whole.Windows
	if windows == nil {
		windows = []placement.Loads{whole.Loads}
	}
	levels, err := imbalanceOver(&out.Placement, windows, whole.Topology, x.o.Dispatch)
	if err != nil {
		return err
	}
	of := &problem.Problem{Loads: whole.Loads, Windows: whole.Windows}
	u := problem.NewUnit(&whole.Topology, whole.Replicas, len(x.must), nil)
	s := divide.New(pack.New(u, len(x.must)))
	slot := make([]int32, u.Slots)
	for l, row := range whole.Loads {
		level, bound, moves := levels[l], 1.0, out.Layers[l].Moves
		rest, total := 0.0, 0.0
		for e, w := range row {
			total += w
			if !x.must[e] {
				rest += w
			}
		}
		switch {
		case x.o.Dispatch == Split:
			u.Read(out.Placement.PhysicalToLogical[l], slot)
			level, bound = s.Over(of, l, slot)
		case u.Equal && len(x.rest) > 0 && total > 0:
			bound = (float64(r.Layers[l].LowerBound*rest) + (total - rest)) / total
		}
		if k := out.Locality; k != nil && total > 0 { // of the others: of all it is less
			k.FreeImbalance[l] = min(level, (float64(k.FreeImbalance[l]*rest)+(total-rest))/total)
			k.OffNodeShare[l] *= rest / total
		}
		stopped := len(x.rest) > 0 && r.Layers[l].Status == Stopped
		out.Layers[l] = newLayer(level, bound, stopped)
		out.Layers[l].Moves = moves
	}
	return nil
}
