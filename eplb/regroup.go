package eplb

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/homes"
	"github.com/moelb/moelb/eplb/internal/moves"
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
	x.change(r, func(g *regrouper, l int, y *traffic.Layer) {
		_, y.Tokens, _ = sample(x.p.Routes, l)
		if y.Tokens.Len() > 0 {
			g.limit(y)
			g.rehouse(r, l, y)
			traffic.Regroup(y, g.slot, x.stopped)
		}
	})
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
	n, left := len(r.Layers), max(x.o.MaxMoves, 0)
	for _, y := range r.Layers {
		left -= y.Moves
	}
	left = max(left, 0)
	inParallel(x.o.Workers, n, func() func(l int) {
		g := newRegrouper(x)
		return func(l int) {
			if x.stopped() {
				r.Layers[l].Status = Stopped
				return
			}
			y := g.take(l, r)
			if x.o.MaxMoves != 0 {
				y.Moves, y.MovePrice = r.Layers[l].Moves+left/n+(left%n+l)/n, 0
			}
			layer(g, l, y)
			g.give(l, r)
		}
	})
	x.rescore(r)
}

// regrouper changes layers; its memory serves one after the other.
type regrouper struct {
	*planner
	node []int // of each GPU
	at   *problem.Layer
	m    *moves.Mover // of the placement in force; nil = there is none
	slot []int32
}

func newRegrouper(x *planner) *regrouper {
	u := problem.NewUnit(x.t, x.p.Replicas, x.c.Experts())
	g := &regrouper{planner: x, node: u.Node, at: problem.NewLayer(x.c), slot: make([]int32, u.Slots)}
	if x.p.Previous != nil {
		g.m = moves.New(x.c)
		g.at = g.m.Layer
	}
	return g
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
	y := &traffic.Layer{
		Task: g.at.Task, Nodes: g.t.NodeCount(), Fixed: g.c.Bare, PerExpert: g.o.Copies == PerExpert,
		Moves: math.MaxInt32, MovePrice: freeMove,
	}
	y.Node, y.Nearest = g.node, g.o.Dispatch == Nearest
	if g.at.Idle {
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

// mostRehoused is how many ways to share the groups by nodes are planned, of those
// with fewer nodes a token than the plan at hand.
const mostRehoused = 24

// rehouse shares the groups by nodes anew, where they stay on these with all their
// replicas: how many nodes tokens visit then depends on that alone. Of the ways
// within the limits the one with the fewest is taken.
func (g *regrouper) rehouse(r *Result, l int, y *traffic.Layer) {
	if y.Home == nil || y.MostOff > 0 || g.m != nil || y.Fixed != nil || y.PerExpert || g.at.Idle {
		return
	}
	now := traffic.NewVisits(y.Nodes).Mean(y.Tokens, setsOf(&r.Placement, l, g.t.Node))
	houses, local := traffic.Houses(y.Tokens, y.Experts, g.p.Groups, y.Nodes), homes.New(g.c)
	for _, h := range houses[:min(len(houses), mostRehoused)] {
		if h.Nodes >= now || g.stopped() {
			return
		}
		local.At(g.p.Loads[l], h.Home, g.c.Tolerance, g.stopped)
		if slot := local.S.Best.Slot; !slices.Contains(slot, -1) && y.Within(y.At(slot)) {
			copy(g.slot, slot)
			g.at.SetHome(h.Home, 0) // of y too
			return
		}
	}
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

// sample is all tokens of a layer, those that are planned with, evenly over all if not
// all, and those that are held out.
func sample(r *placement.Routes, l int) (all, planned, held *traffic.Tokens) {
	all = &traffic.Tokens{K: r.TopK, IDs: r.IDs[l]}
	planned, held = &traffic.Tokens{K: r.TopK}, &traffic.Tokens{K: r.TopK}
	if r.Weights != nil {
		for _, w := range r.Weights[l] {
			all.Weight = append(all.Weight, int64(w))
		}
		return all, all, held
	}
	rest, due := all.Len(), 0
	if rest >= leastHeld {
		rest -= rest / heldOut
	}
	for i := range all.Len() {
		if rest < all.Len() && i%heldOut == heldOut-1 {
			held.IDs = append(held.IDs, r.Token(l, i)...)
		} else if due += sampled; due >= rest {
			planned.IDs = append(planned.IDs, r.Token(l, i)...)
			due %= rest
		}
	}
	return all, planned, held
}
