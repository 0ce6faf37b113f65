package eplb

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/homes"
	"github.com/moelb/moelb/eplb/internal/moves"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/traffic"
	"github.com/moelb/moelb/placement"
)

// Planning for traffic comes last: a plan that is even is changed such that
// tokens visit fewer nodes and it stays within the slack, layer by layer.

const (
	// defaultSlack is TrafficSlack's default.
	defaultSlack = .02
	// sampled is how many tokens a layer are planned with; all are scored.
	sampled = 1 << 13
	// heldOut of so many tokens is one that is not planned with, where a layer has
	// leastHeld or more.
	heldOut   = 8
	leastHeld = 512
	// evenShare of the slack is used freely; what is above has a price, since loads
	// of later tokens differ anyway.
	evenShare = .2
	// freeMove is what a move must save where moves are counted, but not limited,
	// in nodes a token.
	freeMove = 5e-4
)

// regroup changes the plan r for p.Routes on the nodes of t. Replicas of experts that
// are in no group stay.
func (x *planner) regroup(r *Result) {
	layers := len(x.p.Loads)
	even := r.Placement.Clone()
	before := slices.Clone(r.Layers)
	slot := make([]int32, x.c.Unit.Slots)
	about := &Traffic{EvenImbalance: make([]float64, layers), Moves: make([]int, layers)}
	r.Traffic = about
	x.change(r, (*regrouper).layer)
	for l := range r.Layers {
		y, was := &r.Layers[l], before[l]
		about.EvenImbalance[l] = was.Imbalance
		if y.Imbalance > max(was.Imbalance, 1)*(1+max(x.o.TrafficSlack, 0))+1e-12 {
			*y = was // what was promised for parts did not hold for the whole
			x.c.Unit.Read(even.PhysicalToLogical[l], slot)
			r.put(x.c, l, slot)
		}
		about.Moves[l] = y.Moves - was.Moves
	}
	about.count(x, r, &even)
}

// change changes the layers of a plan, what the budget of moves leaves shared out to
// them.
func (x *planner) change(r *Result, layer func(g *regrouper, l int, y *traffic.Layer)) {
	limits, left := make([]int, len(r.Layers)), max(x.o.MaxMoves, 0)
	for _, y := range r.Layers {
		left -= y.Moves
	}
	for l, y := range r.Layers {
		if limits[l] = math.MaxInt32; x.o.MaxMoves != 0 {
			share := max(left, 0) / (len(limits) - l)
			limits[l] = y.Moves + share
			left -= share
		}
	}
	inParallel(x.o.Workers, len(limits), func() func(l int) {
		g := newRegrouper(x)
		return func(l int) {
			if x.stopped() {
				r.Layers[l].Status = Stopped
				return
			}
			y := g.take(l, r)
			y.Moves = limits[l]
			layer(g, l, y)
			g.give(l, r)
		}
	})
	x.rescore(r)
}

// regrouper plans layers for their traffic; its memory serves one after the other.
type regrouper struct {
	*planner
	node  []int // of each GPU
	nodes int
	at    *problem.Layer
	m     *moves.Mover // of the placement in force; nil = there is none
	s     *pack.Packer
	slot  []int32
	local *homes.Planner // of groups that change their nodes; nil = not asked yet
}

func newRegrouper(x *planner) *regrouper {
	u := x.c.Unit
	g := &regrouper{planner: x, nodes: x.t.NodeCount(), s: pack.New(u, x.c.Experts()), slot: make([]int32, u.Slots)}
	for _, gpu := range u.Gpu {
		g.node = append(g.node, x.t.Node(gpu))
	}
	if g.at = problem.NewLayer(x.c); x.p.Previous != nil {
		g.m = moves.New(x.c)
		g.at = g.m.Layer
	}
	return g
}

// layer regroups layer l.
func (g *regrouper) layer(l int, y *traffic.Layer) {
	tokens, _ := sample(g.p.Routes, l)
	if tokens.Len() == 0 {
		return
	}
	y.PerExpert, y.Nearest = g.o.Copies == PerExpert, g.o.Dispatch == Nearest
	y.Tokens = tokens
	if g.m != nil && g.o.MaxMoves == 0 {
		y.MovePrice = freeMove
	}
	g.limit(y)
	g.rehouse(y, l)
	traffic.Regroup(y, g.slot, g.stopped)
}

// mostRehoused is how many ways to share the groups by nodes are planned, of those
// with fewer nodes a token than the plan at hand.
const mostRehoused = 24

// rehouse shares the groups by nodes anew, where they stay on these with all their
// replicas: how many nodes tokens visit then depends on that alone. Of the ways
// within the limits the one with the fewest is taken.
func (g *regrouper) rehouse(y *traffic.Layer, l int) {
	if y.Home == nil || y.MostOff > 0 || g.m != nil || g.c.Bare != nil || y.PerExpert {
		return
	}
	if g.s.SetLoads(g.p.Loads[l]); g.s.Idle {
		return
	}
	houses := traffic.Houses(y.Tokens, g.c.Experts(), g.p.Groups, g.nodes)
	if houses == nil {
		return
	}
	if g.local == nil {
		g.local = homes.New(g.c)
	}
	on := make([]uint64, g.c.Experts())
	for e, n := range y.Home {
		on[e] = 1 << n
	}
	now := traffic.NewVisits(g.nodes).Mean(y.Tokens, on)
	slot := make([]int32, len(g.slot))
	for _, h := range houses[:min(len(houses), mostRehoused)] {
		if h.Nodes >= now || g.stopped() {
			return
		}
		g.local.At(g.s, h.Home, g.c.Tolerance, g.stopped)
		copy(slot, g.local.S.Best.Slot)
		if !slices.Contains(slot, -1) && y.Within(y.At(slot)) {
			copy(g.slot, slot)
			g.at.SetHome(h.Home, 0) // of y too
			return
		}
	}
}

// take takes layer l of the plan, and what it must keep.
func (g *regrouper) take(l int, r *Result) *traffic.Layer {
	g.c.Unit.Read(r.Placement.PhysicalToLogical[l], g.slot)
	if g.at.SetLoads(l); g.m != nil {
		g.m.SetLayer(l)
	}
	if g.c.ByGroup {
		g.at.SetHome(homes.Of(g.c, g.slot), max(g.o.OffNodeReplicas, r.Locality.OffNodeReplicas[l]))
	}
	y := &traffic.Layer{Task: g.at.Task, Nodes: g.nodes, Fixed: g.c.Bare}
	if y.Node = g.node; g.at.Idle {
		y.Load = make([]float64, len(y.Load)) // any plan is even
	}
	return y
}

// give puts layer l back into the plan.
func (g *regrouper) give(l int, r *Result) {
	if g.m != nil {
		g.m.SetLayer(l)
		g.m.S.Settle(g.slot)
		g.m.S.Start(g.slot)
		r.Layers[l].Moves = g.m.S.Moves()
	}
	r.put(g.c, l, g.slot)
}

// limit sets how far above the plan at hand the GPUs may come in every window.
func (g *regrouper) limit(y *traffic.Layer) {
	slack := max(g.o.TrafficSlack, 0)
	at := y.At(g.slot)
	for k := range y.Share {
		level := max(at.Top(k), 1)
		most := level * (1 + slack)
		if t := g.o.Target; t > 0 {
			most = min(most, max(level, t))
		}
		y.Even = append(y.Even, level+float64(evenShare*(most-level)))
		y.Most = append(y.Most, most)
	}
}

// sample is the tokens of a layer that are planned with, and those that are held out;
// nil = none are.
func sample(r *placement.Routes, l int) (planned, held *traffic.Tokens) {
	if r.Weights != nil {
		return everyToken(r, l), nil
	}
	n, rest := r.Tokens(l), []int(nil)
	if n >= leastHeld {
		held = &traffic.Tokens{K: r.TopK}
	}
	for i := range n {
		if held != nil && i%heldOut == heldOut-1 {
			held.IDs = append(held.IDs, r.Token(l, i)...)
		} else {
			rest = append(rest, i)
		}
	}
	planned = &traffic.Tokens{K: r.TopK}
	for k, i := range rest {
		if k*sampled/len(rest) != (k+1)*sampled/len(rest) { // evenly over all, if not all
			planned.IDs = append(planned.IDs, r.Token(l, i)...)
		}
	}
	return planned, held
}
