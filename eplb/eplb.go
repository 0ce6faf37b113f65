package eplb

import (
	"context"
	"fmt"

	"github.com/moelb/moelb/placement"
)

// Policy names the algorithm.
type Policy int

const (
	// Optimal searches replica counts and placement together and proves a bound.
	Optimal Policy = iota
	// DeepSeek is the published algorithm (github.com/deepseek-ai/EPLB,
	// rebalance_experts): the same maps for the same loads, ties and float32
	// arithmetic included. It may put an expert twice on one GPU. It wants
	// slots that GPUs, and GPUs that nodes, share evenly, and knows neither
	// speeds nor GPUs out of service.
	DeepSeek
)

// String returns the policy's name on the wire.
func (p Policy) String() string { return name([]string{"optimal", "deepseek"}, int(p)) }

// Locality says whether groups of experts stay together on a node.
type Locality int

const (
	// Auto is ByGroup where the groups can be shared evenly by the nodes, and
	// Free elsewhere.
	Auto Locality = iota
	// ByGroup keeps every group on one node, as many groups on each node, but
	// for OffNodeReplicas. Group-limited routing then sends a token to few nodes.
	ByGroup
	// Free lets any replica live anywhere.
	Free
)

// String returns the locality's name on the wire.
func (l Locality) String() string { return name([]string{"auto", "groups", "none"}, int(l)) }

// Dispatch says how an expert's tokens are shared among its replicas.
type Dispatch int

const (
	// Even splits an expert's tokens evenly over its replicas.
	Even Dispatch = iota
	// Split lets the engine split them per batch as it likes, so replicas are
	// placed such that a split can even the GPUs out, that of the given loads first
	// and that of noisy batches next: split evenly, such a plan may be far less even
	// than one made for Even. Imbalance and LowerBound are then those of the best
	// split of the given loads.
	Split
	// Nearest sends every GPU's tokens of an expert to one replica: its own, else
	// the first, of the lowest slot, on its node, else evenly to all of them; tokens
	// come evenly from all GPUs in service. It is what SGLang's static dispatch does.
	// Imbalance is that of these loads; LowerBound that of the best split of them.
	Nearest
)

// String returns the dispatch's name on the wire.
func (d Dispatch) String() string { return name([]string{"even", "split", "nearest"}, int(d)) }

// Status says how an answer ended.
type Status int

const (
	// Feasible: the best plan found; a better one may exist, none below LowerBound.
	Feasible Status = iota
	// Proved: the plan meets its lower bound, so none is better.
	Proved
	// Stopped: the context ended the search; this is the best plan so far.
	Stopped
)

// String returns the status's name on the wire.
func (s Status) String() string { return name([]string{"feasible", "optimal", "stopped"}, int(s)) }

func name(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprint(i)
	}
	return names[i]
}

// Problem is what is to be placed where.
type Problem struct {
	// Loads is the expected load of each expert, [layers][experts].
	Loads placement.Loads
	// Windows, oldest first, are set instead of Loads where the plan is to hold
	// over several windows of one shape: the time that steps like these take
	// together is then least, not the imbalance of their sum. Windows count in
	// proportion to their loads, those without load in a layer for nothing. Where
	// a layer has more than 24 with load, sums of alike ones are planned for; the
	// figures are those of all. Policy deepseek plans the sum.
	Windows []placement.Loads
	// LayerExperts is the number of experts of each layer, [layers], where they differ,
	// as in pruned models: the first so many; others have no load there and no replica.
	// nil = all have as many.
	LayerExperts []int
	// LayerReplicas is the number of slots of each layer, [layers], Replicas at most,
	// where they differ: a GPU's last slots are then empty. nil = Replicas each. Layers
	// of one shape share MaxMoves as ever, shapes in proportion to their layers; what
	// one leaves, later ones have.
	LayerReplicas []int
	// Replicas is the number of slots a layer, over all GPUs, those out of
	// service included. GPUs share them so that counts differ by at most one,
	// the first GPUs having the larger share.
	Replicas int
	// Groups of equally many consecutive experts; 0 = 1, no groups.
	Groups int
	// LayerWeights are how many of the tokens each layer sees, [layers], relative to
	// the others: less than 1 for a row of multi-token prediction or one that was only
	// sampled, 0 for one that is not in use. They decide where MaxMoves are spent; nil =
	// all alike.
	LayerWeights []float64
	// Topology is the GPUs, their nodes, fault domains and speeds.
	Topology placement.Topology
	// Everywhere lists experts, distinct, that have a replica on every GPU in
	// service: a shared expert that is fused with the routed ones, or the hottest
	// few. Groups are then not kept on nodes unless that is asked for, by locality
	// groups: those everywhere are then no members of them, but come before or after.
	// Beside Routes groups then keep the nodes that balance gave them.
	Everywhere []int
	// Previous is the placement in force; nil = none. The plan then moves as
	// few replicas as its target and its budget ask, and slots that keep their
	// expert keep their index. It has p's layers and experts; GPUs that it lacks
	// are new and empty, GPUs beyond the topology's are gone; GPUs may have had
	// other numbers of slots. It may be incomplete.
	Previous *placement.Placement
	// Routes are tokens' experts; nil = unknown. Of the plans whose imbalance is
	// within TrafficSlack of the best without them, that is then chosen under which
	// tokens visit the fewest nodes; of pairs of experts (placement.Pairs), the fewest
	// are parted. It wants two nodes at least, 64 at most. Loads stay what is balanced.
	Routes *placement.Routes
}

// Options choose the algorithm; the zero value is the documented default.
type Options struct {
	Policy   Policy
	Locality Locality
	// OffNodeReplicas is how many replicas a layer may live outside their
	// group's node; only with groups. 0 = none.
	OffNodeReplicas int
	// TwoNodes puts every expert on two nodes at least, so that any one node may
	// fail; not with groups kept on nodes. It wants twice as many slots as experts.
	TwoNodes bool
	// TwoDomains is the same for the fault domains of the topology. Beside TwoNodes,
	// where domains cross nodes, every expert is in two of the blocks that neither a
	// node nor a domain reaches out of, which is more than is asked.
	TwoDomains bool
	Dispatch   Dispatch
	// Tolerance ends a layer's search once its imbalance is within this
	// fraction of its lower bound. 0 = 0.0002; negative = search on until
	// nothing improves.
	Tolerance float64
	// Target, with Previous: a layer's moves stop once its imbalance is within it.
	// 0 = within 1% of the best plan that would take any number of moves.
	Target float64
	// MaxMoves, with Previous, bounds the moves over all layers; they are spent
	// where they lessen the imbalance most. 0 = no bound, negative = none. What
	// experts without a live replica need is moved whatever the bound, and so is
	// what groups, TwoNodes, TwoDomains and Everywhere need, what replaces a second
	// replica on one GPU, and what fills slots that are empty, as those of new GPUs.
	MaxMoves int
	// Restarts, with Previous, is how often the moves of a layer are taken back at most, to
	// look for fewer from every placement on the way, as long as that finds any; 0 = 4,
	// negative = never, and one path is walked in place of many.
	Restarts int
	// TrafficSlack, with Routes, is how far above its imbalance without them a layer
	// may be, as a fraction. 0 = 0.02, negative = not at all.
	TrafficSlack float64
	// Copies, with Routes, is how the engine sends tokens to other nodes; what is made
	// small is accordingly the nodes that tokens visit or the experts they find on
	// none of their own node's GPUs.
	Copies Copies
	// Workers is how many goroutines share the layers; 0 = GOMAXPROCS, 1 = none
	// beyond the caller's. The result does not depend on it.
	Workers int
}

// Layer is how one layer of a result fares.
type Layer struct {
	// Imbalance is the largest load/speed of a GPU in service divided by total
	// load / total speed; 1 for a layer without load. With Windows it is the sum
	// over them of the largest load/speed over the sum of their means, with
	// dispatch split each window's by itself.
	Imbalance float64
	// LowerBound is proved: no placement of this layer's loads under the same
	// constraints has a smaller Imbalance. That no expert is twice on a GPU and
	// no slot in service empty, where the counts allow it, is one of them.
	LowerBound float64
	Status     Status
	// Moves counts the slots whose expert was not on that GPU in Previous.
	Moves int
	// NodesPerToken, with Routes, is the mean over all their tokens of the fewest
	// nodes that together hold a replica of each of a token's experts; NaN without
	// tokens.
	NodesPerToken float64
}

// LocalityPrice is what keeping groups on their nodes costs.
type LocalityPrice struct {
	// Home is the node of each group, [layers][groups].
	Home [][]int
	// FreeImbalance is each layer's imbalance without the constraint, [layers].
	FreeImbalance []float64
	// OffNodeReplicas and OffNodeShare count, a layer, the replicas outside
	// their group's node and the share of the load that they serve.
	OffNodeReplicas []int
	OffNodeShare    []float64
}

// Result is a plan.
type Result struct {
	Placement placement.Placement
	Layers    []Layer
	// Locality is set where groups were kept on nodes.
	Locality *LocalityPrice
	// Traffic is set where Routes were given.
	Traffic *Traffic
}

// Plan computes a placement of p.Replicas replicas of p.Loads' experts.
//
// The input is not changed. Bad input is a *placement.Error wrapping ErrShape,
// ErrValue or ErrFit. If ctx ends, every layer still has a valid plan, the best
// found so far, with Status Stopped; that is not an error.
func Plan(ctx context.Context, p Problem, o Options) (Result, error) {
	if err := check(&p, &o); err != nil {
		return Result{}, err
	}
	if p.LayerExperts != nil || p.LayerReplicas != nil {
		return planShapes(ctx, p, o)
	}
	return planAlike(ctx, p, o)
}

// planAlike plans layers of one shape.
func planAlike(ctx context.Context, p Problem, o Options) (Result, error) {
	t := p.Topology
	if err := fit(&p, &o); err != nil {
		return Result{}, err
	}
	return newPlanner(ctx, &p, &o, &t).plan(), nil
}
