package eplb

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// validate checks p and o and fills in their defaults.
func validate(p *Problem, o *Options) error {
	if err := inTurn(p, o, validateLoads, validateTopology, validateRoutes, validateDomains, validateNumbers, validatePrevious, validateLayers); err != nil {
		return err
	}
	if o.Policy == DeepSeek {
		return validateDeepSeek(p, o)
	}
	o.Tolerance = cmp.Or(o.Tolerance, 2e-4)
	return inTurn(p, o, chooseLocality, validateRoom, validateTwoNodes, validateLocality)
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

// validateTopology checks p.Topology and counts its nodes. Where nodes cannot share the
// groups, the published policy ignores both.
func validateTopology(p *Problem, o *Options) error {
	t := &p.Topology
	p.Groups = cmp.Or(p.Groups, 1)
	err := t.Validate()
	even := t.NodeGPUs == nil || err == nil && t.EvenNodes()
	if n := t.NodeCount(); o.Policy == DeepSeek && even && n > 0 && p.Groups > 0 && p.Groups%n != 0 {
		p.Groups, t.Nodes, t.NodeGPUs = 1, 1, nil
		err = t.Validate()
	}
	if err != nil {
		return err
	}
	if t.Nodes = t.NodeCount(); even {
		t.NodeGPUs = nil
	}
	return nil
}

// validateNumbers demands a slot for every expert, no more than are supported, and checks
// each other number and name by itself.
func validateNumbers(p *Problem, o *Options) error {
	const field = "num_replicas"
	n, layers, experts := p.Replicas, len(p.Loads), p.Loads.Experts()
	whole := p.LayerExperts == nil && p.LayerReplicas == nil
	return cmp.Or(
		refuse.Value(n < 1, field, "%d: at least 1 is needed", n),
		refuse.Value(n > placement.MaxSlots, field, "%d: at most %d are supported", n, placement.MaxSlots),
		refuse.Value(n > placement.MaxCells/layers, field, "%d replicas in %d layers: at most %d slots in all are supported", n, layers, placement.MaxCells),
		refuse.Fit(whole && n < experts, field, "%d replicas for %d experts: every expert needs one", n, experts),
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
	out := slices.Clone(windows)
	for l := range windows[0] {
		most, scale := 0.0, 0.0
		for _, w := range windows {
			most = max(most, problem.Sum(w[l]))
		}
		if most < leastLoad {
			scale = 1 / leastLoad
		}
		for k, w := range windows {
			if x := problem.Sum(w[l]); x > 0 && x < leastLoad {
				row := slices.Clone(w[l])
				for e := range row {
					row[e] *= scale
				}
				out[k] = slices.Clone(out[k]) // which are the caller's
				out[k][l] = row
			}
		}
	}
	return out
}

// validateLoads checks p.Loads or p.Windows and sets both: the windows, one at least, and
// their sum.
func validateLoads(p *Problem, o *Options) error {
	windows := p.Windows
	switch {
	case windows == nil:
		windows = []placement.Loads{p.Loads}
	case p.Loads != nil:
		return refuse.Errorf(placement.ErrShape, "loads", "both loads and windows are given")
	case len(windows) == 0:
		return refuse.Errorf(placement.ErrShape, "loads", "no windows")
	}
	layers, experts, gpus := len(windows[0]), windows[0].Experts(), max(1, min(p.Topology.GPUs, placement.MaxGPUs))
	for i, w := range windows {
		if err := cmp.Or(
			w.Validate(),
			refuse.Shape(len(w) != layers || w.Experts() != experts, "loads", "%d layers of %d experts, but window 0 has %d of %d", len(w), w.Experts(), layers, experts),
		); err != nil {
			return refuse.Edit(err, func(e *placement.Error) {
				if p.Windows != nil {
					e.Detail = fmt.Sprintf("window %d: %s", i, e.Detail)
				}
			})
		}
	}
	if err := cmp.Or(
		refuse.Shape(len(windows) > placement.MaxCells/(layers*experts), "loads", "%d windows of %d numbers: at most %d numbers are supported", len(windows), layers*experts, placement.MaxCells),
		refuse.Shape(len(windows) > maxWindowGPUs/gpus, "loads", "%d windows on %d GPUs: at most %d are supported", len(windows), gpus, maxWindowGPUs/gpus),
	); err != nil {
		return err
	}
	if o.Policy != DeepSeek { // which rounds them to what a float32 holds
		windows = lifted(windows)
	}
	p.Loads, p.Windows = placement.NewLoads(layers, experts), windows
	for _, w := range windows {
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

// validateLayers checks what is told of each layer, and that no expert that there is not
// has a load.
func validateLayers(p *Problem, _ *Options) error {
	layers, experts := len(p.Loads), p.Loads.Experts()
	err := cmp.Or(
		checkList("layer_experts", p.LayerExperts, layers, 1, experts),
		checkList("layer_replicas", p.LayerReplicas, layers, 1, p.Replicas),
		checkList("layer_weights", p.LayerWeights, layers, 0, maxWeight),
	)
	for l := 0; l < len(p.LayerExperts) && err == nil; l++ {
		for e, w := range p.Loads[l] {
			if n := p.LayerExperts[l]; e >= n && w != 0 {
				return refuse.At(placement.ErrValue, "loads", l, e, "%v, but the layer has %d experts", w, n)
			}
		}
	}
	return err
}

// checkList demands a number between two for every layer, if there are any.
func checkList[T int | float64](field string, list []T, layers int, least, most T) error {
	if list != nil && len(list) != layers {
		return refuse.Errorf(placement.ErrShape, field, "%d entries, but loads have %d layers", len(list), layers)
	}
	for l, x := range list {
		if !(x >= least && x <= most) {
			return refuse.At(placement.ErrValue, field, l, -1, "%v: between %v and %v are possible", x, least, most)
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
func validateRoom(p *Problem, _ *Options) error { return checkRoom(p, 1, "gpu_speed", "experts") }

// validateTwoNodes demands room for every expert on two nodes.
func validateTwoNodes(p *Problem, o *Options) error {
	if !o.TwoNodes {
		return nil
	}
	_, gpus := inService(&p.Topology, p.Replicas)
	if nodes := len(slices.DeleteFunc(gpus, func(n int) bool { return n == 0 })); nodes < 2 {
		return refuse.Errorf(placement.ErrFit, "two_nodes", "%d node in service: at least 2 are needed", nodes)
	}
	return checkRoom(p, 2, "two_nodes", "experts on two nodes each")
}

// checkRoom demands room for so many copies of every expert, no two on one node; as many
// nodes are in service.
func checkRoom(p *Problem, copies int, field, what string) error {
	t, experts, each := &p.Topology, p.Loads.Experts(), 0
	slots, gpus := inService(t, p.Replicas)
	room := func() (sum int) { // with so many slots each GPU; 0 = those there are
		for k, n := range slots {
			if each > 0 {
				n = int(min(int64(gpus[k])*int64(each), int64(experts)))
			}
			sum += min(n, experts)
		}
		return sum
	}
	have := room()
	for room() < copies*experts {
		each++
	}
	return refuse.Fit(each > 0, field, "%d %s do not fit the %d slots of the %d GPUs in service: %d slots a GPU, %d in all, would do", experts, what, have, t.InService(), each, int64(each)*int64(t.GPUs))
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
	worst, missing := slices.Index(room, slices.Min(room)), 0
	for _, r := range room {
		missing += max(0, atHome-r)
	}
	return refuse.Fit(missing > o.OffNodeReplicas, "off_node_replicas", "groups of %d experts do not fit the %d slots in service of node %d: %d replicas off their node would do, or locality none", atHome, room[worst], worst, missing)
}
