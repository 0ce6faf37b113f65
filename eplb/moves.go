package eplb

import (
	"context"
	"math/rand/v2"
	"slices"
)

// Planning from a placement in force. Every layer gets a ladder of placements,
// each with more moves and less imbalance than the one before: the first is the
// placement in force, mended where GPUs fell out of service, the last is within
// the target. Without a budget the last rung is taken. With one, rungs are taken
// over all layers where they lessen the imbalance most a move.

// rung is a placement on the way to the target.
type rung struct {
	slot  []int32
	moves int
	level float64
}

// planMoves plans from p.Previous.
func planMoves(ctx context.Context, p *Problem, o *Options) Result {
	layers, experts := len(p.Loads), p.Loads.Experts()
	r := newResult(p, o)
	u := newUnit(&p.Topology, p.Replicas, experts, nil)
	ladders := make([][]rung, layers)
	stopped := make([]bool, layers)
	limited := o.MaxMoves != 0
	inParallel(o.Workers, layers, func() func(l int) {
		m := newMover(u, experts)
		m.twoNodes = o.TwoNodes
		f := newFresh(p, o, u)
		return func(l int) {
			f.setLayer(ctx, l, &r)
			ladders[l] = m.ladder(ctx, f, p, o, l, limited)
			r.Layers[l].LowerBound = f.bound
			stopped[l] = ctx.Err() != nil
		}
	})
	taken := make([]int, layers)
	if limited {
		takeRungs(ladders, max(o.MaxMoves, 0), taken)
	} else {
		for l := range taken {
			taken[l] = len(ladders[l]) - 1
		}
	}
	s := newSolver(u, experts)
	for l, ladder := range ladders {
		g := ladder[taken[l]]
		row := r.Placement.PhysicalToLogical[l]
		writeRow(u, g.slot, row)
		bound := r.Layers[l].LowerBound
		if o.Dispatch == Split {
			g.level, bound = s.splitOf(p.Loads[l], g.slot, g.level)
		}
		r.Layers[l] = newLayer(g.level, bound, stopped[l])
		r.Layers[l].Moves = g.moves
		if r.Locality != nil {
			r.Locality.count(p, l, row)
			r.Locality.FreeImbalance[l] = min(r.Locality.FreeImbalance[l], g.level)
		}
	}
	return r
}

// splitOf is the level of a layer's placement under the best split of its loads,
// where level is that of the even one, and a bound on that of any.
func (s *solver) splitOf(loads []float64, slot []int32, level float64) (split, bound float64) {
	if s.setLoads(loads); s.idle {
		return 1, 1
	}
	if slices.Contains(slot, -1) {
		return level, 1 // a GPU has more slots than there are experts
	}
	copy(s.best.slot, slot)
	clear(s.best.count)
	for _, e := range slot {
		s.best.count[e]++
	}
	return s.splitLevel(), s.splitBound()
}

// takeRungs spends a budget of moves over the layers: the next stretch of a
// ladder that lessens the imbalance most a move, as long as it fits. The first
// rung of a layer is what its experts need to live and is always taken.
func takeRungs(ladders [][]rung, budget int, taken []int) {
	for l := range taken {
		taken[l] = 0
		budget -= ladders[l][0].moves
	}
	for {
		best, to, rate := -1, 0, 0.0
		for l, ladder := range ladders {
			now := ladder[taken[l]]
			for i := taken[l] + 1; i < len(ladder); i++ {
				n := ladder[i].moves - now.moves
				if n > budget {
					continue
				}
				if x := (now.level - ladder[i].level) / float64(max(n, 1)); x > rate {
					best, to, rate = l, i, x
				}
			}
		}
		if best < 0 {
			return
		}
		budget -= ladders[best][to].moves - ladders[best][taken[best]].moves
		taken[best] = to
	}
}

// moveRestarts is how many random paths are tried beside the greedy one.
const moveRestarts = 8

// rungTargets are the levels, as shares of the way from the target to where the
// layer stands, at which a ladder has rungs for a budget to choose from.
var rungTargets = []float64{.75, .5, .35, .25, .15, .1, .05}

// ladder finds the rungs of a layer; f.bound is a proved bound on their level.
func (m *mover) ladder(ctx context.Context, f *fresh, p *Problem, o *Options, l int, all bool) []rung {
	m.w = f.s.w
	m.sortLoads()
	m.read(p, l)
	m.reset()
	m.setHomes(p, o, l)
	m.mend()
	if m.twoNodes && !m.spreadOut() {
		f.make()
		return []rung{m.adopt(f)}
	}
	first := rung{slices.Clone(m.slot), m.moves, m.level()}
	m.settleKept(first.slot)
	m.start = first.slot
	if f.s.idle {
		first.level = 1
	}
	ladder := []rung{first}
	aim := o.Target
	stop := func() bool { return ctx.Err() != nil }
	if aim == 0 && !f.s.idle {
		// A plan from scratch shows what can be reached.
		f.make()
		aim = f.level * 1.01
	}
	aim = max(aim, f.bound) // less cannot be had
	away := m.home != nil && m.off > m.mostOff
	if (first.level <= aim || f.s.idle || stop()) && !away {
		return ladder
	}
	restarts := o.Restarts
	if restarts == 0 {
		restarts = moveRestarts
	}
	var g rung
	ok := false
	if !away {
		if all {
			for _, x := range rungTargets {
				if g, ok := m.reach(aim+float64(x*(first.level-aim)), 0, stop); ok {
					ladder = append(ladder, g)
				}
			}
		}
		g, ok = m.reach(aim, restarts, stop)
	}
	if !ok {
		// Greed did not get there: see what a plan from scratch reaches.
		f.make()
		if t := max(aim, f.level*(1+1e-9)); t > aim && !away {
			g, ok = m.reach(t, restarts, stop)
		}
		if !ok && (away || (f.level < g.level && !stop())) {
			if x := m.adopt(f); away || x.level < g.level {
				g = x
			}
		}
	}
	if away {
		return []rung{g} // the placement in force is none to stop at
	}
	ladder = append(ladder, g)
	// Only rungs that are better than those before them.
	out := ladder[:1]
	for _, g := range ladder[1:] {
		for len(out) > 1 && out[len(out)-1].moves >= g.moves && g.level <= out[len(out)-1].level {
			out = out[:len(out)-1]
		}
		if g.level < out[len(out)-1].level {
			out = append(out, g)
		}
	}
	return out
}

// reach looks for the fewest moves to level T and returns the best it found:
// that of fewest moves within T or, if none is (ok false), of least level.
func (m *mover) reach(T float64, restarts int, stop func() bool) (best rung, ok bool) {
	m.T = T
	take := func() {
		m.reload()
		level := m.level()
		in := level <= T*(1+1e-12)
		if best.slot == nil || (in && (!ok || m.moves < best.moves)) || (!in && !ok && level < best.level) {
			best.slot = append(best.slot[:0], m.slot...)
			best.moves, best.level = m.moves, level
		}
		ok = ok || in
	}
	for i := range max(restarts, 0) + 1 {
		if i > 0 && stop() {
			break
		}
		m.seed(i)
		m.reset()
		m.nodeShare = nodeShares[i%len(nodeShares)]
		for round := range evenings {
			if !m.evenNodes(stop) && round > 0 {
				break
			}
			for !ok || m.moves < best.moves {
				c, more := m.step()
				if !more || stop() {
					break
				}
				m.apply(c)
			}
			if m.home == nil || m.level() <= T {
				break
			}
		}
		take()
		if m.twoEach && m.home == nil && !m.twoNodes {
			m.reset()
			if m.pairMoves(stop) {
				take()
			}
		}
	}
	m.rng = nil
	m.settleKept(best.slot)
	return best, ok
}

// seed makes the path to come random path i; 0 = the plain one.
func (m *mover) seed(i int) {
	m.rng = nil
	if i > 0 {
		m.rng = rand.New(rand.NewPCG(uint64(i), 0))
	}
}
