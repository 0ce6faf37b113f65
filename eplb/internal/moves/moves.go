package moves

import (
	"context"
	"slices"

	"github.com/moelb/moelb/eplb/internal/fresh"
	"github.com/moelb/moelb/eplb/internal/homes"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/search"
)

// Take spends a budget of moves over the layers: the next stretch of a
// front that lessens the imbalance most a move, as long as it fits. The first
// point of a layer is what its experts need to live and is always taken. A layer
// counts by its weight; nil = all alike. It returns which point of each is taken; without
// a budget, 0, the last.
func Take(fronts []*search.Front, weight []float64, budget int) []int {
	taken, limited := make([]int, len(fronts)), budget != 0
	budget = max(budget, 0)
	for l, f := range fronts {
		if budget -= f.Points[0].Moves; !limited {
			taken[l] = len(f.Points) - 1
		}
	}
	for {
		best, to, rate := -1, 0, 0.0
		for l, f := range fronts {
			now := f.Points[taken[l]]
			for i := taken[l] + 1; i < len(f.Points); i++ {
				n := f.Points[i].Moves - now.Moves
				if n > budget {
					break
				}
				x := (now.Key - f.Points[i].Key) / float64(max(n, 1))
				if weight != nil {
					x *= weight[l]
				}
				if x > rate {
					best, to, rate = l, i, x
				}
			}
		}
		if best < 0 {
			return taken
		}
		budget -= fronts[best].Points[to].Moves - fronts[best].Points[taken[best]].Moves
		taken[best] = to
	}
}

// Mover makes the fronts of layers. Its memory is used again for every layer.
type Mover struct {
	*problem.Layer
	cold  search.Annealer
	ended func() bool    // the context
	f     *fresh.Planner // of the layer at hand
	out   *search.Front
	first []int32 // the placement in force, mended
}

func New(p *problem.Problem) *Mover {
	u := p.Unit
	m := &Mover{Layer: problem.NewLayer(p)}
	m.Task.Prev = make([]int32, u.Slots)
	m.Task.Had = make([]uint64, len(u.Gpu)*m.Task.Words())
	return m
}

// SetLayer takes the loads and the placement in force of a layer.
func (m *Mover) SetLayer(l int) {
	m.SetLoads(l)
	m.read(l)
	m.S.Set(&m.Task)
}

// read takes layer l of the placement in force. Slots of GPUs out of service
// are left out; what is in slots beyond those that the unit uses comes to others.
func (m *Mover) read(l int) {
	t, v := &m.Task, m.P.Previous
	clear(t.Had)
	row, first := v.PhysicalToLogical[l], v.FirstSlots()
	for g, gpu := range m.U.Gpu {
		slot := t.Prev[m.U.First[g]:m.U.First[g+1]]
		for i := range slot {
			slot[i] = -1
		}
		if gpu >= v.GPUs {
			continue
		}
		// The second of an expert on its GPU counts as an empty slot.
		for i, e := range row[first[gpu]:first[gpu+1]] {
			if e < 0 || t.Had[g*t.Words()+e>>6]>>(e&63)&1 != 0 {
				continue
			}
			t.Had[g*t.Words()+e>>6] |= 1 << (e & 63)
			if i < len(slot) {
				slot[i] = int32(e)
			} else if k := slices.Index(slot, -1); k >= 0 {
				slot[k] = int32(e) // a slot that the unit does not use
			}
		}
	}
}

// Front finds the placements of a layer to choose from; f.Bound is a proved
// bound on their time. budget is how many moves may be made, in all layers together;
// 0 = any number, and the front is one placement.
func (m *Mover) Front(ctx context.Context, f *fresh.Planner, l, budget int) *search.Front {
	out := &search.Front{ByTime: budget == 0}
	m.SetLayer(l)
	s := &m.S
	m.setHomes(m.Task.Prev)
	s.Start(m.Task.Prev)
	s.Mend()
	apart := m.Task.Domain == nil || s.SpreadOut()
	m.f, m.out, m.first = f, out, slices.Clone(s.Slots())
	out.Only(s, m.first) // and counts what is off
	aim := m.P.Target
	m.ended = func() bool { return ctx.Err() != nil }
	stop := func() bool { return m.ended() || s.Work() > 4*moveWork }
	if aim == 0 && !m.Idle {
		// A plan from scratch shows what can be reached.
		f.Make()
		aim = f.Level * 1.01
	}
	aim = max(aim, f.Bound) // less cannot be had
	switch {
	case !apart || m.Task.Home != nil && s.Off() > m.Task.MostOff: // none to stop at
		f.Make()
		out.Only(s, m.adopt(true))
	case out.Points[0].Time <= aim || m.Idle || stop():
	case budget != 0:
		m.ladder(search.Goal{Time: aim, Moves: out.Points[0].Moves + max(budget, 0), Stop: stop})
	default:
		m.reach(search.Goal{Time: aim, Moves: anyMoves, Stop: stop})
	}
	return out
}

// setHomes gives every group the node where most of its replicas are, as many
// groups to each, where groups must stay together.
func (m *Mover) setHomes(slot []int32) {
	if m.P.ByGroup {
		m.SetHome(homes.Of(m.P, slot), m.P.Off)
	}
}

// norms are the powers, as how often 2 is squared, of the norms that paths go by: the
// higher the nearer to the maximum, where few moves are best spent. Over several windows
// paths go by soft norms; within a budget by the softest first, by which the next window is
// .2 to .5% more even.
var norms = [...]int{5, 7}

// moveWork is how many changes are looked at in a layer before no further path is
// begun: a tenth of a second, which only layers of a thousand slots take. At four
// times as many a path ends where it is.
const moveWork = 1 << 24

// anyMoves is no budget.
const anyMoves = 1 << 30

// straight is the norm that heads for a goal: that of what GPUs are above it.
func (m *Mover) straight() int {
	if len(m.Task.Share) > 1 {
		return search.Soft
	}
	return 0
}

// rungs are the levels, as shares of the way from the best that is known to where
// the layer stands, that a plan within a budget looks for fewest moves to.
var rungs = [...]float64{.8, .45, .22, .1, .02}

// ladder makes a front for a budget to choose from: for one level after another the
// fewest moves to it, and on from there.
func (m *Mover) ladder(goal search.Goal) {
	if len(m.Task.Share) > 1 {
		for _, twice := range [...]int{search.Softest, search.Soft} {
			m.S.Ahead(m.out, m.first, twice, search.Goal{Time: goal.Time, Moves: anyMoves, Stop: goal.Stop})
		}
		m.out.Fall()
		return
	}
	m.f.Make()
	best := max(goal.Time, m.f.Level)
	far := max(0, m.out.Points[0].Time-best)
	for _, twice := range norms {
		m.S.Ahead(m.out, m.first, twice, goal)
	}
	m.spread(norms[:], goal)
	m.toward(goal)
	m.retreat(m.adopt(true), goal)
	m.setHomes(m.Task.Prev)
	for _, share := range rungs {
		if goal.Stop() {
			return
		}
		to := goal
		to.Time = best + float64(share*far)
		m.spread([]int{m.straight()}, to)
		m.redo(to)
		if g, ok := m.out.Within(to.Time); ok {
			m.S.Ahead(m.out, m.out.Slots(g), norms[len(norms)-1], goal)
		}
	}
}

// reach looks for the fewest moves to the goal, and leaves that of fewest moves
// within it or, if none is, of least time.
func (m *Mover) reach(goal search.Goal) {
	m.S.Ahead(m.out, m.first, m.straight(), goal)
	if m.short(goal) && m.Task.Home != nil && m.Task.MostOff > 0 {
		for _, share := range nodeShares {
			m.S.AheadByNodes(m.out, m.first, m.straight(), share, goal)
		}
	}
	if m.P.Restarts >= 0 {
		m.spread(append([]int{m.straight()}, norms[:]...), goal)
	}
	if m.out.Points[0].Moves > 0 || len(m.Task.Share) == 1 {
		m.redo(goal)
	}
	if m.short(goal) {
		m.f.Make()
		if m.toward(goal); m.short(goal) {
			m.retreat(m.adopt(true), goal)
		}
		m.redo(goal)
	}
	g, _ := m.out.Within(goal.Time)
	m.out.Keep(g)
}

// short says whether no path reached the goal.
func (m *Mover) short(goal search.Goal) bool {
	_, ok := m.out.Within(goal.Time)
	return !ok
}

// nodeShares are how much of the way from 1 to the goal nodes may be off, on one path
// after another.
var nodeShares = [...]float64{.5, .25, 0}

// toward goes from the placement in force to the experts of the plan from scratch, node
// by node where nodes matter, on by exchanges and by annealing that minds no moves, and
// back.
func (m *Mover) toward(goal search.Goal) {
	s, full := &m.S, m.adopt(false)
	m.setHomes(full)
	far := goal
	far.Moves = anyMoves
	if !s.AheadByCounts(m.out, m.first, full, m.straight(), far) {
		return
	}
	if end := max(goal.Time, m.f.Level); s.Time() > end && len(m.Task.Share) == 1 {
		m.cold.Lower(s, search.FirstDraws, end, goal.Stop)
	}
	m.retreat(slices.Clone(s.Slots()), goal)
}

// retreat goes back from a layout.
func (m *Mover) retreat(from []int32, goal search.Goal) {
	m.out.Add(&m.S, from)
	if m.S.Work() > moveWork/2 {
		return
	}
	m.setHomes(from)
	for _, twice := range norms {
		m.S.Retreat(m.out, from, twice-1, goal)
	}
}

const (
	// width is how many placements of one move are gone on from.
	width = 32
	// pathWork is how many changes are looked at before no further one is: in large layers
	// a path takes long.
	pathWork = 1 << 20
)

// spread walks many paths at once by each of some norms, or over several windows by the soft
// one, to the goal, with fewer moves than are known to reach it. Without it plans take 3%
// more moves to a target, and stand .1% higher within budgets, .2% after five moves.
func (m *Mover) spread(norms []int, goal search.Goal) {
	if len(m.Task.Share) > 1 {
		norms = []int{search.Soft}
	}
	work := min(m.S.Work()+pathWork, moveWork/4)
	to := goal
	to.Stop = func() bool { return goal.Stop() || m.S.Work() > work }
	for _, twice := range norms {
		if g, ok := m.out.Within(goal.Time); ok {
			to.Moves = min(goal.Moves, g.Moves-1)
		}
		m.S.Spread(m.out, m.first, twice, width, to)
	}
}

// redo takes moves back from the point of fewest moves within the goal, and walks on from
// every point of the front with fewer, until that saves none. Where moves are a must what
// comes to their slots is free to choose, of which annealing finds more.
func (m *Mover) redo(goal search.Goal) {
	if m.out.Points[0].Moves > 0 {
		m.fewer(goal)
		return
	}
	work, stop := m.S.Work()+pathWork/2, goal.Stop
	goal.Stop = func() bool { return stop() || m.S.Work() > work }
	for range m.rounds() {
		g, ok := m.out.Within(goal.Time)
		if !ok || g.Moves == 0 || goal.Stop() {
			return
		}
		slot := m.out.Slots(g)
		m.setHomes(slot)
		m.S.Retreat(m.out, slot, search.Soft, goal)
		goal.Moves = g.Moves - 1
		for _, p := range slices.Clone(m.out.Points) {
			if p.Moves <= goal.Moves {
				slot := m.out.Slots(p)
				m.setHomes(slot)
				m.S.Ahead(m.out, slot, m.straight(), goal)
			}
		}
		if h, _ := m.out.Within(goal.Time); h.Moves == g.Moves {
			return
		}
	}
}

// rounds is how often moves are taken back at most.
func (m *Mover) rounds() int {
	if m.P.Restarts == 0 {
		return mostRounds
	}
	return max(0, m.P.Restarts)
}

const (
	// mostRounds is how often moves are taken back at most where nobody says how often.
	mostRounds = 4
	// Few of many ways to choose what comes to the slots of GPUs that came, or from those
	// that went, save moves. Without so many draws a move layers of 64 experts that grow
	// from 16 GPUs to 20, or shrink to 14, take 8 to 10% more moves, at a quarter of the
	// work; at the price of other moves 6 to 9% more.
	fewerDraws   = 1000
	resizedDraws = 16000
	fewestDrawn  = 40 // moves; of fewer as many are drawn
	// fewerSweeps bounds how often each of a small layer's changes is drawn.
	fewerSweeps = 128
	// movePrice is the price of a move at first, in what the moves so far have each
	// taken of the overload, and cheaper what becomes of it where the goal was missed.
	movePrice = 3
	cheaper   = .3
)

// fewer looks by annealing, from the best placement that is known, for fewer moves
// to the goal, or for any number where it is not reached yet. Where a round does not
// get there, the next goes on from it at a lower price of a move.
func (m *Mover) fewer(goal search.Goal) {
	s, out := &m.S, m.out
	must, draws, rounds := out.Points[0], fewerDraws, m.rounds()
	if m.P.Previous.Slots() != m.P.Replicas {
		draws = resizedDraws
	}
	g, known := out.Within(goal.Time)
	slot := out.Slots(g)
	s.Start(slot)
	over := -s.Above(goal.Time)
	s.Start(out.Slots(must))
	over += s.Above(goal.Time) // what the moves so far have taken
	if s.Work() > moveWork/2 || goal.Moves < anyMoves {
		rounds = min(rounds, 1) // paths alone took long, or this is one of a budget's levels
	}
	price := float64(movePrice * over)
	for range rounds {
		if known && g.Moves <= must.Moves || m.ended() || s.Work() > moveWork {
			return
		}
		most := anyMoves
		if known {
			most = g.Moves
		}
		m.setHomes(slot)
		s.Start(slot)
		n := min(draws*max(g.Moves, fewestDrawn), fewerSweeps*len(slot)*(len(slot)+m.Task.Experts))
		m.cold.Fewer(s, n, goal.Time, price/float64(max(g.Moves, 1)), must.Moves, most, m.ended)
		slot = slices.Clone(s.Slots())
		goal.Moves = most - 1
		s.Ahead(out, slot, m.straight(), goal)
		if h, ok := out.Within(goal.Time); ok && h.Moves < most {
			g, known = h, true
			slot = out.Slots(g)
		} else {
			price *= cheaper
		}
	}
}
