// Package problem reads what every command that plans is asked: the JSON problem or an
// engine's statistics, the placement in force, tokens' routes, and the flags that stand
// in for fields.
package problem

import (
	"fmt"
	"math"
	"slices"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// Problem is what moelb plan is asked: eplb's problem and options, and what
// the command itself looks after.
type Problem struct {
	Source   string            // what the loads are, for people
	File     string            // the input's name; "" = none
	Windows  []placement.Loads // oldest first; at least one
	Replicas int
	Groups   int
	Topology placement.Topology
	Must     []int     // experts that are everywhere
	Weights  []float64 // of the layers; nil = all alike
	experts  []int     // of the layers; nil = all have as many
	slots    []int     // of the layers; nil = Replicas each
	Options  eplb.Options
	Previous *placement.Placement // nil = none
	routes   *placement.Routes    // nil = none
}

// Fields are the members of the JSON problem that a flag may override.
type Fields struct {
	Loads                          []placement.Loads
	steps                          int // recorded steps that each of loads adds up
	note                           string
	windowWeights                  []float64 // nil = not given
	layers                         []int     // numbers of the layers; nil = from 0
	from, rows                     int       // --layers: the first row kept, and how many there were
	replicas, groups, nodes, gpus  int
	version, offNode, maxMoves     int
	policy, locality, dispatch     string
	speed                          []float64
	previous                       [][]float64
	previousGPUs                   int // 0 = as many as gpus
	previousPlacement              *placement.Placement
	target                         float64
	hasPrevious, hasTarget, hasMax bool
	replays                        bool // a target and a number of moves are for every window
	unit                           unitFields
	routes, pairs                  *placement.Routes
	slack                          float64
	hasSlack                       bool
	sends                          string
}

// placedNames are fields that a placement has and a problem has not.
var placedNames = []string{"physical_to_logical_map", "logical_to_physical_map", "logical_count", "num_experts", "gpu_slots", "report"}

// names of a field's values on the wire, in the order of eplb's constants.
var (
	policies   = []string{"optimal", "deepseek"}
	localities = []string{"auto", "groups", "none"}
	Dispatches = []string{"even", "split", "nearest"}
	sends      = []string{"node", "expert"}
)

// readProblem reads the JSON problem of the contract.
func readProblem(s *wire.Scanner) (Fields, error) {
	f := Fields{maxMoves: -1}
	if end, err := s.Ended(); end && err == nil {
		return f, console.ErrEmpty
	}
	const field = "problem"
	err := s.Object(field, func(key string) (err error) {
		switch key {
		case "version":
			f.version, err = ReadVersion(s)
		case "loads":
			f.Loads, err = readWindows(s, key)
		case "num_replicas":
			f.replicas, err = s.Integer(key, 1, placement.MaxSlots)
		case "num_groups":
			f.groups, err = s.Integer(key, 1, placement.MaxExperts)
		case "num_nodes":
			f.nodes, err = s.Integer(key, 1, placement.MaxGPUs)
		case "num_gpus":
			f.gpus, err = s.Integer(key, 1, placement.MaxGPUs)
		case "off_node_replicas":
			f.offNode, err = s.Integer(key, 0, placement.MaxSlots)
		case "policy":
			f.policy, err = s.Text(key)
		case "locality":
			f.locality, err = s.Text(key)
		case "dispatch":
			f.dispatch, err = s.Text(key)
		case "gpu_speed":
			f.speed, err = ReadVector(s, &SpeedKind, key)
		case "previous":
			f.hasPrevious = true
			f.previous, f.previousGPUs, err = readPrevious(s)
		case "target":
			f.hasTarget = true
			f.target, err = s.Number("a number ≥ 1", key, -1, -1)
		case "max_moves":
			f.hasMax = true
			f.maxMoves, err = s.Integer(key, 0, math.MaxInt32)
		case "window_weights":
			f.windowWeights, err = ReadVector(s, &windowKind, key)
		case "routes":
			f.routes, err = readRoutes(s, key)
		case "pairs":
			f.pairs, err = readPairs(s, key)
		case "traffic_copies":
			f.sends, err = s.Text(key)
		case "traffic_slack":
			f.hasSlack = true
			f.slack, err = s.Number("a number ≥ 0", key, -1, -1)
		default:
			if slices.Contains(placedNames, key) {
				return wire.Bad(placement.ErrValue, key, -1, -1, "this is a field of a placement, not of a problem or statistics")
			}
			if !slices.Contains(unitNames, key) {
				return wire.Bad(placement.ErrValue, key, -1, -1, "unknown field")
			}
			err = f.unit.read(s, key)
		}
		return err
	})
	if err == nil {
		err = s.Finish(field)
	}
	if err == nil && f.version == 0 {
		err = wire.Bad(placement.ErrShape, "version", -1, -1, "missing: this is version 1")
	}
	return f, err
}

func ReadVersion(s *wire.Scanner) (int, error) {
	v, err := s.Number("an integer", "version", -1, -1)
	if err == nil && v != 1 {
		err = wire.Bad(placement.ErrValue, "version", -1, -1, "%s: this is version 1", wire.Plain(v))
	}
	return int(v), err
}

// readPrevious reads the placement in force; gpus 0 = it does not say.
func readPrevious(s *wire.Scanner) (rows [][]float64, gpus int, err error) {
	const field = "previous"
	err = s.Object(field, func(key string) (err error) {
		switch key {
		case "physical_to_logical_map":
			rows, err = ReadTable(s, &SlotKind, "previous.physical_to_logical_map")
		case "num_gpus":
			gpus, err = s.Integer("previous.num_gpus", 1, placement.MaxGPUs)
		default:
			return wire.Bad(placement.ErrValue, field, -1, -1, "%q is an unknown field", key)
		}
		return err
	})
	if err == nil && rows == nil {
		err = wire.Bad(placement.ErrShape, field, -1, -1, "physical_to_logical_map is missing")
	}
	return rows, gpus, err
}

// Weigh lets each window count as its tokens times its weight. text is a flag's
// weights, "" = the problem's own, if any.
func (f *Fields) Weigh(text string) (err error) {
	const field = "window_weights"
	if text != "" {
		if f.windowWeights, err = NumbersOf("--window-weights", text); err != nil {
			return err
		}
	}
	if f.windowWeights == nil || f.Loads == nil {
		return nil
	}
	switch n := len(f.Loads); {
	case f.steps > 1:
		return wire.Bad(placement.ErrFit, field, -1, -1, "of so long a recording every %d steps have been added up: weigh a shorter one", f.steps)
	case len(f.windowWeights) != n:
		return wire.Bad(placement.ErrShape, field, -1, -1, "%d entries, but loads has %d windows", len(f.windowWeights), n)
	}
	some := false
	for w, weight := range f.windowWeights {
		if !(weight >= 0 && weight <= 1e6) {
			return wire.Bad(placement.ErrValue, field, -1, w, "%v: a number from 0 to 1e6 is needed", weight)
		}
		some = some || weight > 0
		for _, row := range f.Loads[w] {
			for e := range row {
				row[e] *= weight
			}
		}
	}
	if !some {
		return wire.Bad(placement.ErrValue, field, -1, -1, "no window has any: one of them at least must be above 0")
	}
	return nil
}

// Choice finds a name among those of a field.
func Choice(field, name string, names []string) (int, error) {
	for i, n := range names {
		if n == name || name == "" && i == 0 {
			return i, nil
		}
	}
	return 0, wire.Bad(placement.ErrValue, field, -1, -1, "%q is unknown: one of %q is needed", name, names)
}

// Unit is what a problem says of a unit of so many GPUs, and of how tokens are shared:
// GPUs alike on one node, and evenly, where it says nothing, as statistics do. What a
// problem says of another number of GPUs is left out.
func (f *Fields) Unit(gpus int) (placement.Topology, eplb.Dispatch, error) {
	d, err := Choice("dispatch", f.dispatch, Dispatches)
	if err != nil || f.gpus != gpus {
		return placement.Topology{GPUs: gpus, Nodes: 1}, eplb.Dispatch(d), err
	}
	t, err := f.unit.topology(f.gpus, f.nodes, f.speed)
	return t, eplb.Dispatch(d), err
}

// build checks what the fields say together, and what eplb leaves to its caller.
func (f *Fields) build() (*Problem, error) {
	if f.replicas == 0 && len(f.unit.layerReplicas) > 0 {
		f.replicas = slices.Max(f.unit.layerReplicas)
	}
	for _, m := range []struct {
		field   string
		missing bool
	}{{"loads", f.Loads == nil}, {"num_replicas", f.replicas == 0}, {"num_gpus", f.gpus == 0}} {
		if m.missing {
			return nil, wire.Bad(placement.ErrShape, m.field, -1, -1, "missing")
		}
	}
	p := &Problem{Windows: f.Loads, Replicas: f.replicas, Groups: max(f.groups, 1), Must: f.unit.everywhere, experts: f.unit.layerExperts, slots: f.unit.layerReplicas}
	p.Options.OffNodeReplicas = f.offNode
	p.Options.TwoNodes, p.Options.TwoDomains = f.unit.twoNodes, f.unit.twoDomains
	policy, err := Choice("policy", f.policy, policies)
	if err != nil {
		return nil, err
	}
	locality, err := Choice("locality", f.locality, localities)
	if err != nil {
		return nil, err
	}
	dispatch, err := Choice("dispatch", f.dispatch, Dispatches)
	if err != nil {
		return nil, err
	}
	p.Options.Policy, p.Options.Locality, p.Options.Dispatch = eplb.Policy(policy), eplb.Locality(locality), eplb.Dispatch(dispatch)
	for w, l := range p.Windows {
		if err := l.Validate(); err != nil {
			if len(p.Windows) > 1 {
				return nil, fmt.Errorf("window %d: %w", w, err)
			}
			return nil, err
		}
	}
	if p.Topology, err = f.unit.topology(f.gpus, f.nodes, f.speed); err != nil {
		return nil, err
	}
	if p.Weights, err = f.unit.weights(len(p.Windows[0])); err != nil {
		return nil, err
	}
	if err := p.checkPolicy(); err != nil {
		return nil, err
	}
	if err := p.checkPrevious(f); err != nil {
		return nil, err
	}
	if err := p.checkRoutes(f); err != nil {
		return nil, err
	}
	return p, nil
}

// checkPolicy refuses fields that the chosen policy or locality would ignore.
func (p *Problem) checkPolicy() error {
	o := &p.Options
	if o.Policy == eplb.DeepSeek {
		switch {
		case o.Locality != eplb.Auto:
			return wire.Bad(placement.ErrValue, "locality", -1, -1, "%q: policy deepseek has a rule of its own: use policy optimal", o.Locality)
		case o.OffNodeReplicas > 0:
			return wire.Bad(placement.ErrValue, "off_node_replicas", -1, -1, "%d: policy deepseek knows none: use policy optimal", o.OffNodeReplicas)
		}
		return nil
	}
	experts := p.Windows[0].Experts()
	kept := experts%p.Groups == 0 && p.Groups%p.Topology.NodeCount() == 0 && !o.TwoNodes && p.Must == nil // by locality auto
	if o.OffNodeReplicas > 0 && (o.Locality == eplb.Free || o.Locality == eplb.Auto && !kept) {
		return wire.Bad(placement.ErrValue, "off_node_replicas", -1, -1, "%d: no groups are kept on nodes here (%d experts, %d groups, %d nodes, locality %v)", o.OffNodeReplicas, experts, p.Groups, p.Topology.NodeCount(), o.Locality)
	}
	return nil
}

// checkPrevious demands a placement of the same shape that holds every expert.
func (p *Problem) checkPrevious(f *Fields) error {
	if !f.hasPrevious && !f.replays {
		switch {
		case f.hasTarget:
			return wire.Bad(placement.ErrShape, "target", -1, -1, "%v: only with previous or --previous", f.target)
		case f.hasMax:
			return wire.Bad(placement.ErrShape, "max_moves", -1, -1, "%d: only with previous or --previous", f.maxMoves)
		}
		return nil
	}
	if f.hasTarget && !(f.target >= 1) {
		return wire.Bad(placement.ErrValue, "target", -1, -1, "%v: an imbalance is at least 1", f.target)
	}
	p.Options.Target = f.target
	if f.hasMax {
		// Here 0 is a bound; to eplb it is none.
		if p.Options.MaxMoves = f.maxMoves; f.maxMoves == 0 {
			p.Options.MaxMoves = -1
		}
	}
	if !f.hasPrevious {
		return nil
	}
	if p.Options.Policy == eplb.DeepSeek {
		return wire.Bad(placement.ErrValue, "previous", -1, -1, "policy deepseek plans anew: use policy optimal")
	}
	layers, experts := len(p.Windows[0]), p.Windows[0].Experts()
	previous := f.previousPlacement
	if previous == nil {
		previous = &placement.Placement{Experts: experts, LayerExperts: p.experts, GPUs: f.gpus, PhysicalToLogical: Ints[int](f.previous)}
		if f.previousGPUs > 0 {
			previous.GPUs = f.previousGPUs
		}
		if n := previous.Slots(); n%previous.GPUs != 0 {
			previous.GPUSlots = placement.EvenSlots(n, previous.GPUs)
		}
	}
	if n := len(previous.PhysicalToLogical); f.rows > 0 && n == f.rows && n != layers {
		all := *previous
		all.PhysicalToLogical = all.PhysicalToLogical[f.from : f.from+layers]
		if all.LayerExperts != nil {
			all.LayerExperts = all.LayerExperts[f.from : f.from+layers]
		}
		if all.ReplicaRank != nil {
			all.ReplicaRank = all.ReplicaRank[f.from : f.from+layers]
		}
		previous = &all
	}
	const field = "previous.physical_to_logical_map"
	switch {
	case len(previous.PhysicalToLogical) != layers:
		return wire.Bad(placement.ErrShape, field, -1, -1, "%d layers, but loads has %d", len(previous.PhysicalToLogical), layers)
	case f.previousPlacement == nil && f.previousGPUs == 0 && previous.Slots() != f.replicas:
		return wire.Bad(placement.ErrShape, field, 0, -1, "%d slots, but num_replicas is %d", previous.Slots(), f.replicas)
	case previous.Experts != experts:
		return wire.Bad(placement.ErrShape, "previous", -1, -1, "%d experts, but loads has %d", previous.Experts, experts)
	}
	if err := previous.Validate(); err != nil {
		return fmt.Errorf("previous.%w", err)
	}
	p.Previous = previous
	return nil
}

// Sum is the loads of all windows together.
func (p *Problem) Sum() (placement.Loads, error) {
	if len(p.Windows) == 1 {
		return p.Windows[0], nil
	}
	l := placement.NewLoads(len(p.Windows[0]), p.Windows[0].Experts())
	for _, w := range p.Windows {
		if err := l.AddWindow(w); err != nil {
			return nil, err
		}
	}
	return l, l.Validate()
}

// Ask is the problem in eplb's words.
func (p *Problem) Ask() eplb.Problem {
	ask := eplb.Problem{Replicas: p.Replicas, Groups: p.Groups, Topology: p.Topology, Everywhere: p.Must, Previous: p.Previous, Routes: p.routes, LayerWeights: p.Weights, LayerExperts: p.experts, LayerReplicas: p.slots}
	if len(p.Windows) == 1 {
		ask.Loads = p.Windows[0]
	} else {
		ask.Windows = p.Windows
	}
	return ask
}
