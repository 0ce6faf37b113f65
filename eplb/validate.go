package eplb

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// validate checks p and o and fills in their defaults.
func validate(p *Problem, o *Options) error {
	if err := validateLoads(p, o); err != nil {
		return err
	}
	if p.Groups == 0 {
		p.Groups = 1
	}
	if o.Policy == DeepSeek {
		leaveGroups(p)
	}
	if err := validateTopology(p, o); err != nil {
		return err
	}
	if p.Topology.EvenNodes() {
		if p.Topology.NodeGPUs = nil; o.Policy == DeepSeek {
			leaveGroups(p) // which it could not before
		}
	}
	if err := inTurn(p, o, validateRoutes, validateDomains, validateReplicas, validateRanges, validatePrevious, validateWeights); err != nil {
		return err
	}
	if o.Policy == DeepSeek {
		return validateDeepSeek(p, o)
	}
	if o.Tolerance == 0 {
		o.Tolerance = 2e-4
	}
	return inTurn(p, o, chooseLocality, validateRoom, validateTwoNodes, validateLocality)
}

// validateTopology checks p.Topology and counts its nodes.
func validateTopology(p *Problem, _ *Options) error {
	err := p.Topology.Validate()
	if err == nil {
		p.Topology.Nodes = p.Topology.NodeCount()
	}
	return err
}

// inTurn makes checks, each of which may rely on those before it.
func inTurn(p *Problem, o *Options, checks ...func(*Problem, *Options) error) error {
	for _, check := range checks {
		if err := check(p, o); err != nil {
			return err
		}
	}
	return nil
}

// leaveGroups makes a problem one of no groups and one node where nodes cannot share
// the groups: the published policy then ignores both.
func leaveGroups(p *Problem) {
	if n := p.Topology.NodeCount(); p.Groups > 0 && n > 0 && p.Groups%n != 0 && p.Topology.NodeGPUs == nil {
		p.Groups, p.Topology.Nodes = 1, 1
	}
}

// validateReplicas demands a slot for every expert, and no more than are supported.
func validateReplicas(p *Problem, _ *Options) error {
	const field = "num_replicas"
	n, layers, experts := p.Replicas, len(p.Loads), p.Loads.Experts()
	return cmp.Or(
		refuse.Value(n < 1, field, "%d: at least 1 is needed", n),
		refuse.Value(n > placement.MaxSlots, field, "%d: at most %d are supported", n, placement.MaxSlots),
		refuse.Value(n > placement.MaxCells/layers, field, "%d replicas in %d layers: at most %d slots in all are supported", n, layers, placement.MaxCells),
		refuse.Fit(n < experts, field, "%d replicas for %d experts: every expert needs one", n, experts),
	)
}

// validateRanges checks each number and name by itself.
func validateRanges(p *Problem, o *Options) error {
	return cmp.Or(
		refuse.Value(p.Groups < 0, "num_groups", "%d is negative", p.Groups),
		refuse.Value(o.OffNodeReplicas < 0, "off_node_replicas", "%d is negative", o.OffNodeReplicas),
		refuse.Value(math.IsNaN(o.Tolerance), "tolerance", "%v is not a number", o.Tolerance),
		refuse.Value(o.Workers < 0, "workers", "%d is negative", o.Workers),
		refuse.Value(o.Policy != Optimal && o.Policy != DeepSeek, "policy", "%v is not a policy", o.Policy),
		refuse.Value(o.Locality < Auto || o.Locality > Free, "locality", "%v is not a locality", o.Locality),
		refuse.Value(o.Dispatch < Even || o.Dispatch > Nearest, "dispatch", "%v is not a dispatch", o.Dispatch),
	)
}

// chooseLocality decides what Auto stands for, and demands that groups can be kept on
// nodes where they must.
func chooseLocality(p *Problem, o *Options) error {
	experts, nodes, asked := p.Loads.Experts(), p.Topology.Nodes, o.Locality == ByGroup
	uneven := experts%p.Groups != 0
	divides := !uneven && p.Groups%nodes == 0
	if o.Locality == Auto && divides && !o.TwoNodes {
		o.Locality = ByGroup
	}
	if o.Locality == Auto || nodes == 1 { // one node: every group is at home
		o.Locality = Free
	}
	return cmp.Or(
		refuse.Shape(asked && uneven, "num_groups", "%d experts cannot be shared evenly by %d groups", experts, p.Groups),
		refuse.Shape(asked && !divides, "num_groups", "%d groups cannot be shared evenly by %d nodes: use locality none", p.Groups, nodes),
		refuse.Value(asked && o.TwoNodes, "two_nodes", "groups stay on one node each: use locality none"),
	)
}

// maxWindowGPUs bounds the windows times GPUs: the loads of a layer on each GPU
// in each window are held in memory.
const maxWindowGPUs = 1 << 22

// leastLoad is what a layer's loads in a window must add up to: parts of less have no
// digits left.
const leastLoad = 0x1p-1000

// lifted is windows with all loads larger by a power of two in layers that have less than
// leastLoad in every window. In other layers, a window that has less has none.
func lifted(windows []placement.Loads) []placement.Loads {
	sums := make([]float64, len(windows))
	out := windows
	for l := range windows[0] {
		low, factor := false, 1/leastLoad
		for k, w := range windows {
			sums[k] = 0
			for _, x := range w[l] {
				sums[k] += x
			}
			if low = low || sums[k] > 0 && sums[k] < leastLoad; sums[k] >= leastLoad {
				factor = 0
			}
		}
		if !low {
			continue
		}
		if &out[0] == &windows[0] { // which are the caller's
			out = make([]placement.Loads, len(windows))
			for k, w := range windows {
				out[k] = slices.Clone(w)
			}
		}
		for k, sum := range sums {
			if sum < leastLoad {
				out[k][l] = slices.Clone(out[k][l])
				for e := range out[k][l] {
					out[k][l][e] *= factor
				}
			}
		}
	}
	return out
}

// validateLoads checks p.Loads, or p.Windows and sets p.Loads to their sum, or to the
// one window there is: it is then planned like any other loads.
func validateLoads(p *Problem, o *Options) error {
	lift := lifted
	if o.Policy == DeepSeek { // which rounds them to what a float32 holds
		lift = func(w []placement.Loads) []placement.Loads { return w }
	}
	if p.Windows == nil {
		err := p.Loads.Validate()
		if err == nil {
			p.Loads = lift([]placement.Loads{p.Loads})[0]
		}
		return err
	}
	if err := cmp.Or(refuse.Shape(p.Loads != nil, "loads", "both loads and windows are given"), refuse.Shape(len(p.Windows) == 0, "loads", "no windows")); err != nil {
		return err
	}
	for i, w := range p.Windows {
		if err := w.Validate(); err != nil {
			return refuse.Edit(err, func(e *placement.Error) { e.Detail = fmt.Sprintf("window %d: %s", i, e.Detail) })
		}
		if len(w) != len(p.Windows[0]) || w.Experts() != p.Windows[0].Experts() {
			return refuse.Errorf(placement.ErrShape, "loads", "window %d: %d layers of %d experts, but window 0 has %d of %d", i, len(w), w.Experts(), len(p.Windows[0]), p.Windows[0].Experts())
		}
	}
	if n := len(p.Windows[0]) * p.Windows[0].Experts(); len(p.Windows) > placement.MaxCells/n {
		return refuse.Errorf(placement.ErrShape, "loads", "%d windows of %d numbers: at most %d numbers are supported", len(p.Windows), n, placement.MaxCells)
	}
	if gpus := min(p.Topology.GPUs, placement.MaxGPUs); gpus > 0 && len(p.Windows) > maxWindowGPUs/gpus {
		return refuse.Errorf(placement.ErrShape, "loads", "%d windows on %d GPUs: at most %d are supported", len(p.Windows), gpus, maxWindowGPUs/gpus)
	}
	p.Windows = lift(p.Windows)
	if len(p.Windows) == 1 {
		p.Loads, p.Windows = p.Windows[0], nil
		return nil
	}
	p.Loads = placement.NewLoads(len(p.Windows[0]), p.Windows[0].Experts())
	for _, w := range p.Windows {
		if err := p.Loads.AddWindow(w); err != nil {
			return err
		}
	}
	return p.Loads.Validate()
}

// validatePrevious checks the placement in force and what goes with it.
func validatePrevious(p *Problem, o *Options) error {
	v := p.Previous
	if err := cmp.Or(
		refuse.Value(o.Target != 0 && !(o.Target >= 1 && o.Target <= math.MaxFloat64), "target", "%v: an imbalance is at least 1", o.Target),
		refuse.Shape(v == nil && o.Target != 0, "target", "%v, but without previous there is nothing to move from", o.Target),
		refuse.Shape(v == nil && o.MaxMoves != 0, "max_moves", "%d, but without previous there is nothing to move from", o.MaxMoves),
		refuse.Value(v != nil && o.Policy == DeepSeek, "previous", "policy deepseek plans from scratch: use policy optimal"),
	); v == nil || err != nil {
		return err
	}
	if layers := len(v.PhysicalToLogical); layers != len(p.Loads) {
		return refuse.Errorf(placement.ErrShape, "previous", "%d layers, but loads have %d", layers, len(p.Loads))
	}
	if err := v.Validate(); err != nil {
		return refuse.Edit(err, func(e *placement.Error) { e.Field = "previous." + e.Field })
	}
	if v.Experts != p.Loads.Experts() {
		return refuse.Errorf(placement.ErrShape, "previous", "%d experts, but loads have %d", v.Experts, p.Loads.Experts())
	}
	for l := range p.Loads {
		if n, want := v.ExpertsOf(l), at(p.LayerExperts, l, v.Experts); n != want {
			return refuse.At(placement.ErrShape, "previous", l, -1, "%d experts, but loads have %d there: see layer_experts", n, want)
		}
	}
	return nil
}

// maxWeight bounds a layer's weight.
const maxWeight = 1e6

// validateWeights checks the layers' weights.
func validateWeights(p *Problem, _ *Options) error {
	if p.LayerWeights != nil && len(p.LayerWeights) != len(p.Loads) {
		return refuse.Errorf(placement.ErrShape, "layer_weights", "%d entries, but loads have %d layers", len(p.LayerWeights), len(p.Loads))
	}
	for l, w := range p.LayerWeights {
		if !(w >= 0 && w <= maxWeight) {
			return refuse.At(placement.ErrValue, "layer_weights", l, -1, "%v is not a number from 0 to %v", w, float64(maxWeight))
		}
	}
	return nil
}

// inService is, of every node of t, the slots and the GPUs in service.
func inService(t *placement.Topology, replicas int) (slots, gpus []int) {
	slots, gpus = make([]int, t.NodeCount()), make([]int, t.NodeCount())
	for g, n := range placement.EvenSlots(replicas, t.GPUs) {
		if t.SpeedOf(g) > 0 {
			slots[t.Node(g)] += n
			gpus[t.Node(g)]++
		}
	}
	return slots, gpus
}

// validateRoom demands a slot in service for every expert.
func validateRoom(p *Problem, _ *Options) error {
	experts, gpus, room := p.Loads.Experts(), p.Topology.GPUs, 0
	slots, _ := inService(&p.Topology, p.Replicas)
	for _, n := range slots {
		room += n
	}
	if room < experts {
		alive := p.Topology.InService()
		each := int64((experts + alive - 1) / alive) // times gpus may exceed 32 bits
		return refuse.Errorf(placement.ErrFit, "gpu_speed", "%d experts do not fit the %d slots of the %d GPUs in service: %d slots a GPU, %d in all, would do", experts, room, alive, each, each*int64(gpus))
	}
	return nil
}

// validateDeepSeek demands what the published program does: GPUs share the
// slots evenly and, where nodes can share the groups evenly, groups the experts
// and nodes the GPUs. Elsewhere it looks at neither groups nor nodes. Options
// that it has no notion of are refused, but for Tolerance and Workers.
func validateDeepSeek(p *Problem, o *Options) error {
	t, experts := &p.Topology, p.Loads.Experts()
	return cmp.Or(
		refuse.Value(t.Speed != nil, "gpu_speed", "policy deepseek knows no speeds: use policy optimal"),
		refuse.Value(o.Dispatch != Even, "dispatch", "policy deepseek plans for an even one: use policy optimal"),
		refuse.Value(o.Locality != Auto, "locality", "%v: policy deepseek keeps groups on nodes where num_nodes divides num_groups, and knows no choice: use policy optimal", o.Locality),
		refuse.Value(!t.EvenNodes(), "gpus_per_node", "policy deepseek wants as many GPUs on every node: use policy optimal"),
		refuse.Value(o.TwoNodes, "two_nodes", "policy deepseek knows no such thing: use policy optimal"),
		refuse.Value(o.OffNodeReplicas != 0, "off_node_replicas", "%d: policy deepseek knows none: use policy optimal", o.OffNodeReplicas),
		refuse.Shape(p.Replicas%t.GPUs != 0, "num_replicas", "%d replicas cannot be shared evenly by %d GPUs, which policy deepseek wants: use policy optimal", p.Replicas, t.GPUs),
		refuse.Shape(p.Groups%t.Nodes == 0 && experts%p.Groups != 0, "num_groups", "%d experts cannot be shared evenly by %d groups, which policy deepseek wants", experts, p.Groups),
	)
}

// validateLocality demands that the experts of as many groups as a node gets
// fit it, but for the replicas that may live elsewhere.
func validateLocality(p *Problem, o *Options) error {
	if o.Locality != ByGroup {
		return nil
	}
	o.OffNodeReplicas = min(o.OffNodeReplicas, p.Replicas) // of all there are
	atHome := p.Loads.Experts() / p.Topology.Nodes
	room, _ := inService(&p.Topology, p.Replicas)
	missing, worst := 0, 0
	for n, r := range room {
		missing += max(0, atHome-r)
		if r < room[worst] {
			worst = n
		}
	}
	if missing <= o.OffNodeReplicas {
		return nil
	}
	return refuse.Errorf(placement.ErrFit, "off_node_replicas", "groups of %d experts do not fit the %d slots in service of node %d: %d replicas off their node would do, or locality none", atHome, room[worst], worst, missing)
}

// validateTwoNodes demands room for every expert on two nodes.
func validateTwoNodes(p *Problem, o *Options) error {
	if !o.TwoNodes {
		return nil
	}
	experts := p.Loads.Experts()
	room, alive := inService(&p.Topology, p.Replicas)
	nodes, sum := 0, 0
	for k, n := range room {
		nodes += min(alive[k], 1)
		sum += min(n, experts)
	}
	if nodes < 2 {
		return refuse.Errorf(placement.ErrFit, "two_nodes", "%d node in service: at least 2 are needed", nodes)
	}
	if sum >= 2*experts {
		return nil
	}
	each := 1
	fits := func() bool {
		sum := 0
		for _, n := range alive {
			sum += int(min(int64(n)*int64(each), int64(experts)))
		}
		return sum >= 2*experts
	}
	for !fits() {
		each++
	}
	return refuse.Errorf(placement.ErrFit, "two_nodes", "%d experts on two nodes each do not fit the %d slots in service: %d slots a GPU, %d in all, would do", experts, sum, each, int64(each)*int64(p.Topology.GPUs))
}
