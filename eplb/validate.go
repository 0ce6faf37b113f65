package eplb

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/traffic"
	"github.com/moelb/moelb/placement"
)

// check checks all that is asked of a problem but that experts fit their slots, and fills
// in defaults. Each check may rely on those before it.
func check(p *Problem, o *Options) error {
	for _, check := range []func(*Problem, *Options) error{checkLoads, checkTopology, checkRanges, checkUse, checkLists, checkPrevious, checkRoutes} {
		if err := check(p, o); err != nil {
			return err
		}
	}
	o.Tolerance = cmp.Or(o.Tolerance, 2e-4)
	return nil
}

// maxWindowGPUs bounds the windows times GPUs: the loads of a layer on each GPU
// in each window are held in memory.
const maxWindowGPUs = 1 << 22

// checkLoads checks p.Loads or p.Windows and sets both: the windows, one at least, and
// their sum.
func checkLoads(p *Problem, o *Options) error {
	windows := p.Windows
	switch {
	case windows == nil:
		windows = []placement.Loads{p.Loads}
	case p.Loads != nil:
		return refuse.Errorf(placement.ErrShape, "loads", "both loads and windows are given")
	case len(windows) == 0:
		return refuse.Errorf(placement.ErrShape, "loads", "no windows")
	}
	layers, experts := len(windows[0]), windows[0].Experts()
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
	gpus := max(1, min(p.Topology.GPUs, placement.MaxGPUs))
	if most := min(placement.MaxCells/(layers*experts), maxWindowGPUs/gpus); len(windows) > most {
		return refuse.Errorf(placement.ErrShape, "loads", "%d windows of %d layers and %d experts on %d GPUs: at most %d are supported", len(windows), layers, experts, gpus, most)
	}
	p.setWindows(windows, o.Policy != DeepSeek) // which rounds them to what a float32 holds
	return p.Loads.Validate()
}

// setWindows takes windows, lifted or not, and their sum.
func (p *Problem) setWindows(windows []placement.Loads, lift bool) {
	if p.Windows = windows; lift {
		p.Windows = lifted(windows)
	}
	p.Loads = placement.NewLoads(len(windows[0]), windows[0].Experts())
	for _, w := range p.Windows {
		for l, row := range w {
			for e, x := range row {
				p.Loads[l][e] += x
			}
		}
	}
}

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

// checkTopology checks p.Topology and counts its nodes. Where nodes cannot share the
// groups, the published policy ignores both.
func checkTopology(p *Problem, o *Options) error {
	t := &p.Topology
	p.Groups = cmp.Or(p.Groups, 1)
	even := t.NodeGPUs == nil || t.Validate() == nil && t.EvenNodes()
	if n := t.NodeCount(); o.Policy == DeepSeek && even && n > 0 && p.Groups > 0 && p.Groups%n != 0 {
		p.Groups, t.Nodes, t.NodeGPUs = 1, 1, nil
	}
	if err := t.Validate(); err != nil {
		return err
	}
	if t.Nodes = t.NodeCount(); even {
		t.NodeGPUs = nil
	}
	return nil
}

// checkRanges checks each number and name by itself.
func checkRanges(p *Problem, o *Options) error {
	inf := math.Inf(1)
	for _, x := range []struct {
		field              string
		value, least, most float64
	}{
		{"num_replicas", float64(p.Replicas), 1, float64(min(placement.MaxSlots, placement.MaxCells/len(p.Loads)))},
		{"num_groups", float64(p.Groups), 1, inf},
		{"off_node_replicas", float64(o.OffNodeReplicas), 0, inf},
		{"target", cmp.Or(o.Target, 1), 1, math.MaxFloat64},
		{"tolerance", o.Tolerance, -inf, inf},
		{"traffic_slack", o.TrafficSlack, -math.MaxFloat64, math.MaxFloat64},
		{"workers", float64(o.Workers), 0, inf},
		{"policy", float64(o.Policy), float64(Optimal), float64(DeepSeek)},
		{"locality", float64(o.Locality), float64(Auto), float64(Free)},
		{"dispatch", float64(o.Dispatch), float64(Even), float64(Nearest)},
		{"traffic_copies", float64(o.Copies), float64(PerNode), float64(PerExpert)},
	} {
		if err := checkRange(x.field, -1, x.value, x.least, x.most); err != nil {
			return err
		}
	}
	return nil
}

// checkRange demands a number between two, of a layer or (-1) of all.
func checkRange[T int | float64](field string, layer int, x, least, most T) error {
	possible := fmt.Sprintf("between %.15g and %.15g are possible", float64(least), float64(most))
	switch {
	case x >= least && x <= most:
		return nil
	case float64(least) <= -math.MaxFloat64:
		possible = "a finite number is needed"
	case float64(most) >= math.MaxFloat64:
		possible = fmt.Sprintf("at least %.15g is needed", float64(least))
	}
	return refuse.At(placement.ErrValue, field, layer, -1, "%.15g: %s", float64(x), possible)
}

// asked is a field and whether anything is asked by it.
type asked struct {
	field string
	is    bool
}

// checkUse refuses what would change nothing, or what the policy has no notion of.
func checkUse(p *Problem, o *Options) error {
	t := &p.Topology
	for _, x := range []struct {
		where  bool
		kind   error
		why    string
		fields []asked
	}{
		{p.Previous == nil, placement.ErrShape, "without previous there is nothing to move from",
			[]asked{{"target", o.Target != 0}, {"max_moves", o.MaxMoves != 0}}},
		{p.Routes == nil, placement.ErrShape, "without routes there is no traffic to plan for",
			[]asked{{"traffic_slack", o.TrafficSlack != 0}, {"traffic_copies", o.Copies != PerNode}}},
		{o.Policy == DeepSeek, placement.ErrValue, "policy deepseek knows no such thing: use policy optimal",
			[]asked{{"everywhere", len(p.Everywhere) > 0}, {"previous", p.Previous != nil}, {"routes", p.Routes != nil}, {"gpu_speed", t.Speed != nil},
				{"gpus_per_node", !t.EvenNodes()}, {"dispatch", o.Dispatch != Even}, {"locality", o.Locality != Auto},
				{"off_node_replicas", o.OffNodeReplicas != 0}, {"two_nodes", o.TwoNodes}, {"two_domains", o.TwoDomains}}},
	} {
		for _, f := range x.fields {
			if x.where && f.is {
				return refuse.Errorf(x.kind, f.field, "%s", x.why)
			}
		}
	}
	return nil
}

// maxWeight bounds a layer's weight.
const maxWeight = 1e6

// checkLists checks what is told of each layer, that no expert that there is not has a
// load, and which experts are everywhere.
func checkLists(p *Problem, _ *Options) error {
	layers, experts := len(p.Loads), p.Loads.Experts()
	if err := cmp.Or(
		checkList("layer_experts", p.LayerExperts, layers, 1, experts),
		checkList("layer_replicas", p.LayerReplicas, layers, 1, p.Replicas),
		checkList("layer_weights", p.LayerWeights, layers, 0, maxWeight),
	); err != nil {
		return err
	}
	for l, n := range p.LayerExperts {
		for e, w := range p.Loads[l] {
			if e >= n && w != 0 {
				return refuse.At(placement.ErrValue, "loads", l, e, "%v, but the layer has %d experts", w, n)
			}
		}
	}
	is := make([]bool, slices.Min(append([]int{experts}, p.LayerExperts...)))
	for i, e := range p.Everywhere {
		if e < 0 || e >= len(is) {
			return refuse.At(placement.ErrValue, "everywhere", -1, i, "expert %d: there are %d", e, len(is))
		}
		if is[e] {
			return refuse.At(placement.ErrValue, "everywhere", -1, i, "expert %d stands twice", e)
		}
		is[e] = true
	}
	return nil
}

// checkList demands a number between two for every layer, if there are any.
func checkList[T int | float64](field string, list []T, layers int, least, most T) error {
	if list != nil && len(list) != layers {
		return refuse.Errorf(placement.ErrShape, field, "%d entries, but loads have %d layers", len(list), layers)
	}
	for l, x := range list {
		if err := checkRange(field, l, x, least, most); err != nil {
			return err
		}
	}
	return nil
}

// checkPrevious checks the placement in force.
func checkPrevious(p *Problem, _ *Options) error {
	v := p.Previous
	if v == nil {
		return nil
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

// checkRoutes checks tokens' experts.
func checkRoutes(p *Problem, o *Options) error {
	if p.Routes == nil {
		return nil
	}
	o.TrafficSlack = cmp.Or(o.TrafficSlack, defaultSlack)
	nodes := p.Topology.Nodes
	return cmp.Or(
		refuse.Shape(nodes < 2, "routes", "num_nodes is 1: every token visits one node"),
		refuse.Shape(nodes > traffic.MaxNodes, "routes", "%d nodes: at most %d are supported", nodes, traffic.MaxNodes),
		checkChosen(p.Routes, len(p.Loads), p.Loads.Experts(), p.LayerExperts),
	)
}

// checkChosen demands that tokens choose experts that there are, in each layer where
// layers differ.
func checkChosen(r *placement.Routes, layers, experts int, layerExperts []int) error {
	if err := r.Validate(layers, experts); err != nil {
		return err
	}
	for l, n := range layerExperts {
		for i, e := range r.IDs[l] {
			if int(e) >= n {
				return refuse.At(placement.ErrValue, "routes", l, i/r.TopK, "expert %d, but the layer has %d", e, n)
			}
		}
	}
	return nil
}

// fit decides, for layers of one shape, what locality Auto stands for, and demands that
// experts fit their slots as they are to: those that are not everywhere the slots that the
// others leave.
func fit(p *Problem, o *Options) error {
	t, each := &p.Topology, len(p.Everywhere)
	rest := p.others()
	experts, slots := len(rest), p.Replicas-each*t.GPUs
	if err := cmp.Or(
		refuse.Fit(p.Replicas < p.Loads.Experts(), "num_replicas", "%d replicas for %d experts: every expert needs one", p.Replicas, p.Loads.Experts()),
		refuse.Fit(p.Replicas/t.GPUs < each, "everywhere", "%d experts on GPU %d, which has %d slots", each, t.GPUs-1, p.Replicas/t.GPUs),
	); err != nil {
		return err
	}
	if o.Policy == DeepSeek {
		return cmp.Or(
			refuse.Shape(slots%t.GPUs != 0, "num_replicas", "%d replicas cannot be shared evenly by %d GPUs, which policy deepseek wants: use policy optimal", slots, t.GPUs),
			refuse.Shape(experts%p.Groups != 0, "num_groups", "%d experts cannot be shared evenly by %d groups, which policy deepseek wants", experts, p.Groups),
		)
	}
	room, _ := inService(t, slots)
	left := 0
	for _, n := range room {
		left += n
	}
	if each > 0 && left < experts {
		return refuse.Errorf(placement.ErrFit, "everywhere", "%d experts on every GPU leave %d slots in service for the other %d", each, left, experts)
	}
	if err := chooseLocality(p, o, rest); err != nil {
		return err
	}
	if err := cmp.Or(checkRoom(t, slots, experts, 1, "gpu_speed", "experts"), checkApart(p, o, slots, experts)); err != nil || o.Locality != ByGroup {
		return err
	}
	// As many groups as a node gets fit it, but for the replicas that may live elsewhere.
	o.OffNodeReplicas = min(o.OffNodeReplicas, p.Replicas) // of all there are
	atHome, missing := experts/t.Nodes, 0
	for _, r := range room {
		missing += max(0, atHome-r)
	}
	least := slices.Min(room)
	return refuse.Fit(missing > o.OffNodeReplicas, "off_node_replicas", "groups of %d experts do not fit the %d slots in service of node %d: %d replicas off their node would do, or locality none", atHome, least, slices.Index(room, least), missing)
}

// chooseLocality decides what Auto stands for, and demands that groups, of the experts
// that are not everywhere, can be kept on nodes where they must.
func chooseLocality(p *Problem, o *Options, rest []int) error {
	experts, n, nodes := len(rest), p.Groups, p.Topology.Nodes
	asked, divides := o.Locality == ByGroup, experts%n == 0 && n%nodes == 0
	if o.Locality == Auto && divides && !o.TwoNodes && !o.TwoDomains && len(p.Everywhere) == 0 {
		o.Locality = ByGroup
	}
	if o.Locality == Auto || nodes == 1 { // one node: every group is at home
		o.Locality = Free
	}
	// Apart from groups is such as a shared expert after the routed ones.
	within := len(p.Everywhere) > 0 && (experts == 0 || rest[experts-1]-rest[0] >= experts || n > 1 && p.Loads.Experts()%n == 0)
	return cmp.Or(
		refuse.Value(asked && within, "everywhere", "members of groups, which stay on one node each: use locality none"),
		refuse.Shape(asked && experts%n != 0, "num_groups", "%d experts cannot be shared evenly by %d groups", experts, n),
		refuse.Shape(asked && !divides, "num_groups", "%d groups cannot be shared evenly by %d nodes: use locality none", n, nodes),
		refuse.Value(asked && o.TwoNodes, "two_nodes", "groups stay on one node each: use locality none"),
		refuse.Value(asked && o.TwoDomains && nodes > 1, "two_domains", "groups stay on one node each: use locality none"),
	)
}

// checkApart demands room for every expert on two nodes or domains. These become nodes:
// nothing else in a plan that spreads experts depends on nodes. Both together are blocks of
// GPUs whose borders are borders of both: the coarser, where one lies within the other.
func checkApart(p *Problem, o *Options, slots, experts int) error {
	t, field, block := &p.Topology, "two_nodes", "node"
	if o.TwoDomains {
		field, block = "two_domains", "domain"
		sizes := []int{0}
		for g := range t.GPUs {
			if g > 0 && t.Domain(g-1) != t.Domain(g) && (!o.TwoNodes || t.Node(g-1) != t.Node(g)) {
				sizes = append(sizes, 0)
			}
			sizes[len(sizes)-1]++
		}
		if o.TwoNodes && len(sizes) < 2 {
			return refuse.Errorf(placement.ErrFit, field, "beside two_nodes, but no border of a domain is one of a node")
		}
		t.NodeGPUs, t.Nodes, o.TwoNodes = sizes, len(sizes), true
	}
	if !o.TwoNodes {
		return nil
	}
	_, gpus := inService(t, slots)
	if n := len(slices.DeleteFunc(gpus, func(n int) bool { return n == 0 })); n < 2 {
		return refuse.Errorf(placement.ErrFit, field, "%d %s in service: at least 2 are needed", n, block)
	}
	return checkRoom(t, slots, experts, 2, field, "experts on two "+block+"s each")
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

// checkRoom demands room on so many slots for so many copies of every expert, no two on
// one node; as many nodes are in service.
func checkRoom(t *placement.Topology, all, experts, copies int, field, what string) error {
	slots, gpus := inService(t, all)
	have, each := 0, 0
	room := func() (sum int) { // with so many slots each GPU; 0 = those there are
		for k, n := range slots {
			if each > 0 {
				n = int(min(int64(gpus[k])*int64(each), int64(experts)))
			}
			sum += min(n, experts)
		}
		return sum
	}
	for have = room(); room() < copies*experts; {
		each++
	}
	return refuse.Fit(each > 0, field, "%d %s do not fit the %d slots of the %d GPUs in service: %d slots a GPU, %d in all, would do", experts, what, have, t.InService(), each, int64(each)*int64(t.GPUs))
}
