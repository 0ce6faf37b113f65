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
// counts by its weight; nil = all alike.
func Take(fronts []*search.Front, weight []float64, budget int, taken []int) {
	for l := range taken {
		taken[l] = 0
		budget -= fronts[l].Points[0].Moves
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
			return
		}
		budget -= fronts[best].Points[to].Moves - fronts[best].Points[taken[best]].Moves
		taken[best] = to
	}
}

// Mover makes the fronts of layers. Its memory is used again for every layer.
type Mover struct {
	*problem.Layer
	cold  search.Annealer
	ended func() bool // the context
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
	anew := func() *search.Front { // the placement in force is none to stop at
		f.Make()
		out.Only(s, m.adopt(f, true))
		return out
	}
	if m.Task.Domain != nil && !s.SpreadOut() {
		return anew()
	}
	first := slices.Clone(s.Slots())
	out.Only(s, first) // and counts what is off
	aim := m.P.Target
	m.ended = func() bool { return ctx.Err() != nil }
	stop := func() bool { return m.ended() || s.Work() > 4*moveWork }
	if aim == 0 && !m.Idle {
		// A plan from scratch shows what can be reached.
		f.Make()
		aim = f.Level * 1.01
	}
	aim = max(aim, f.Bound) // less cannot be had
	if m.Task.Home != nil && s.Off() > m.Task.MostOff {
		return anew()
	}
	if out.Points[0].Time <= aim || m.Idle || stop() {
		return out
	}
	goal := search.Goal{Time: aim, Moves: 1 << 30, Stop: stop}
	if budget != 0 {
		m.ladder(out, first, goal, f, budget)
	} else {
		m.reach(out, first, goal, f)
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

// norms are the powers, as how often 2 is squared, of the norms that paths go by:
// the higher the nearer to the maximum.
var norms = [...]int{4, 5, 6}

// moveWork is how many changes are looked at in a layer before no further path is
// begun: a tenth of a second, which only layers of a thousand slots take. At four
// times as many a path ends where it is.
const moveWork = 1 << 24

// walk heads straight for a goal. That goes by what GPUs are above it; over several
// windows by a norm, which fits those to come better.
func (m *Mover) walk(out *search.Front, first []int32, goal search.Goal) {
	m.S.Ahead(out, first, m.straight(), 0, goal)
}

func (m *Mover) straight() int {
	if len(m.Task.Share) > 1 {
		return norms[0]
	}
	return 0
}

// rungs are the levels, as shares of the way from the best that is known to where
// the layer stands, that a plan within a budget looks for fewest moves to.
var rungs = [...]float64{.8, .45, .22, .1, .02}

const (
	// ladderPaths random paths are walked under each norm until this share of the way is
	// left: annealing saves little of the few moves up to there, which are a fraction of
	// a whole path.
	ladderPaths = 4
	ladderShare = .22
)

// ladder makes a front for a budget to choose from: paths under several norms, short
// ones at random, then for one level after another the fewest moves to it, and on from
// there.
func (m *Mover) ladder(out *search.Front, first []int32, goal search.Goal, f *fresh.Planner, budget int) {
	if len(m.Task.Share) > 1 {
		// What fits these windows best fits those to come less well: soft norms alone. By
		// that of 8 before that of 16 the next window is .2 to .5% more even.
		for _, twice := range [...]int{search.Softest, norms[0]} {
			m.S.Ahead(out, first, twice, 0, goal)
		}
		out.Fall()
		return
	}
	paid := goal // as far as the budget goes
	paid.Moves = out.Points[0].Moves + max(budget, 0)
	// Few moves are best spent near the maximum: all norms are of twice the power.
	for _, twice := range norms {
		m.S.Ahead(out, first, twice+1, 0, paid)
	}
	f.Make()
	m.toward(out, first, goal, f)
	best := max(goal.Time, f.Level)
	far := max(0, out.Points[0].Time-best)
	near := paid
	near.Time = best + float64(ladderShare*far)
	for seed := range uint64(ladderPaths) {
		for _, twice := range norms {
			m.S.Ahead(out, first, twice+1, seed+1, near)
		}
	}
	for _, share := range rungs {
		if goal.Stop() {
			return
		}
		to := goal
		to.Time = best + float64(share*far)
		m.walk(out, first, to)
		if m.P.Restarts >= 0 {
			m.fewer(out, to, 1, rungSweeps)
		}
		if g, ok := out.Within(to.Time); ok {
			m.S.Ahead(out, out.Slots(g), norms[2]+1, 0, paid)
		}
	}
}

// nodeShares are how much of the way from 1 to the goal nodes may be off, on one path
// after another.
var nodeShares = [...]float64{.5, .25, 0}

// byNodes walks to the goal by evening out nodes first, along random paths where the
// plain ones all end short of it. Without those, one in twelve layers with 8 replicas
// off 4 nodes takes the plan from scratch, with them one in sixteen, for a twentieth of
// all moves; with 4 off it is one in three, or in four, for a tenth.
func (m *Mover) byNodes(out *search.Front, first []int32, goal search.Goal) {
	for _, share := range nodeShares {
		m.S.AheadByNodes(out, first, m.straight(), share, 0, goal)
	}
	work := m.S.Work() + pathWork
	for i := range randomPaths {
		if _, ok := out.Within(goal.Time); ok || goal.Stop() || m.S.Work() > work {
			return
		}
		m.S.AheadByNodes(out, first, m.straight(), nodeShares[i%len(nodeShares)], uint64(i+1), goal)
	}
}

// toward goes from the placement in force to the experts of the plan from scratch, node
// by node where nodes matter, on by exchanges and by annealing that minds no moves, and
// back. Where that ends short of it, the plan itself is the last resort.
func (m *Mover) toward(out *search.Front, first []int32, goal search.Goal, f *fresh.Planner) {
	s, full := &m.S, m.adopt(f, false)
	m.setHomes(full)
	end := max(goal.Time, f.Level)
	short := true
	if s.AheadByCounts(out, first, full, m.straight(), goal) {
		if s.Time() > end && len(m.Task.Share) == 1 {
			m.cold.Lower(s, search.FirstDraws, end, goal.Stop)
		}
		short = s.Time() > end
		m.retreat(out, slices.Clone(s.Slots()), goal)
	}
	if short {
		full = m.adopt(f, true)
		out.Add(s, full)
		if g, ok := out.Within(goal.Time); ok && slices.Equal(out.Slots(g), full) {
			m.retreat(out, full, goal)
		}
	}
}

// retreat goes back from a layout.
func (m *Mover) retreat(out *search.Front, from []int32, goal search.Goal) {
	out.Add(&m.S, from)
	if m.S.Work() > moveWork/2 {
		return
	}
	for _, twice := range norms {
		m.S.Retreat(out, from, twice, goal)
	}
}

// reach looks for the fewest moves to the goal, and leaves that of fewest moves
// within it or, if none is, of least time.
func (m *Mover) reach(out *search.Front, first []int32, goal search.Goal, f *fresh.Planner) {
	rounds := m.P.Restarts
	if rounds == 0 {
		rounds = fewerRounds
	}
	m.walk(out, first, goal)
	if _, ok := out.Within(goal.Time); !ok && m.Task.Home != nil && m.Task.MostOff > 0 {
		m.byNodes(out, first, goal)
	}
	several, mended := len(m.Task.Share) > 1, out.Points[0].Moves > 0
	if rounds > 0 {
		m.tryPaths(out, first, goal)
	}
	for _, twice := range norms {
		g, ok := out.Within(goal.Time)
		if m.S.Work() > moveWork/4 || ok && several {
			break
		}
		to := goal
		if ok {
			to.Moves = g.Moves - 1
		}
		m.S.Ahead(out, first, twice, 0, to)
	}
	if mended || !several {
		m.fewer(out, goal, rounds, fewerSweeps)
	}
	g, ok := out.Within(goal.Time)
	if !ok {
		f.Make()
		m.toward(out, first, goal, f)
		m.fewer(out, goal, rounds, fewerSweeps)
		if g, ok = out.Within(goal.Time); !ok {
			g = out.Points[len(out.Points)-1]
		}
	}
	out.Keep(g)
}

const (
	// randomPaths are tried at most, until so many in a row found nothing, or so many
	// changes were looked at: in large layers a path takes long, and annealing finds more.
	randomPaths = 32
	vainPaths   = 6
	pathWork    = 1 << 20
)

// tryPaths walks random paths to the goal, each no longer than the best so far.
// Without them layers of 10 slots a GPU take 2 to 5% more moves and five times as
// long, by annealing alone; plans over several windows are 1% worse in those to come.
func (m *Mover) tryPaths(out *search.Front, first []int32, goal search.Goal) {
	work := m.S.Work() + pathWork
	for i, vain := uint64(1), 0; i <= randomPaths && vain < vainPaths; i++ {
		if goal.Stop() || m.S.Work() > work {
			return
		}
		g, ok := out.Within(goal.Time)
		if vain++; ok && g.Moves <= goal.Moves {
			vain, goal.Moves = 0, g.Moves-1
		}
		m.S.Ahead(out, first, m.straight(), i, goal)
	}
}

const (
	// fewerRounds is how often moves are taken back by annealing.
	fewerRounds = 4
	// fewerDraws is how many changes are drawn for each move that might be saved.
	fewerDraws  = 1000
	fewerSweeps = 2
	rungSweeps  = 8 // where no random paths were tried
	// movePrice is the price of a move at first, in what the moves so far have each
	// taken of the overload.
	movePrice = .7
	// cheaper is what becomes of the price where the goal was missed.
	cheaper = .3
	// Where GPUs came or went, most moves are a must, and what comes to their slots is
	// free to choose: few of many ways save any. Without so many draws layers of 64
	// experts that grow from 16 GPUs to 20, or shrink to 14, take 8 to 10% more moves,
	// at a quarter of the work; at the price of other moves 6 to 9% more.
	fewestDrawn  = 40 // moves; of fewer as many are drawn
	resizedDraws = 16000
	resizedPrice = 3
)

// fewer looks by annealing, from the best placement that is known, for fewer moves
// to the goal, or for any number where it is not reached yet. Where a round does not
// get there, the next goes on from it at a lower price of a move. The changes that are
// worth drawing are those of the moves so far: sweeps bounds how often each is drawn.
func (m *Mover) fewer(out *search.Front, goal search.Goal, rounds, sweeps int) {
	s, must := &m.S, out.Points[0]
	draws, price := fewerDraws, movePrice
	if must.Moves > 0 {
		price = resizedPrice
		if m.P.Previous.Slots() != m.P.Replicas {
			draws = resizedDraws
		}
	}
	g, known := out.Within(goal.Time)
	if !known {
		g = out.Points[len(out.Points)-1]
	}
	slot := out.Slots(g)
	s.Start(slot)
	over := -s.Above(goal.Time)
	s.Start(out.Slots(must))
	over += s.Above(goal.Time) // what the moves so far have taken
	if s.Work() > moveWork/2 {
		rounds = min(rounds, 1) // paths alone took long
	}
	for range rounds {
		if known && g.Moves <= must.Moves || m.ended() || s.Work() > moveWork {
			return
		}
		most := 1 << 30
		if known {
			most = g.Moves
		}
		m.setHomes(slot)
		s.Start(slot)
		n := draws * max(g.Moves, fewestDrawn)
		if must.Moves == 0 {
			n = min(draws, sweeps*(len(slot)+m.Task.Experts)) * g.Moves
		}
		m.cold.Fewer(s, n, goal.Time, float64(price*over)/float64(max(g.Moves, 1)), must.Moves, most, m.ended)
		slot = slices.Clone(s.Slots())
		goal.Moves = most - 1
		m.walk(out, slot, goal)
		if h, ok := out.Within(goal.Time); ok && h.Moves < most {
			g, known = h, true
			slot = out.Slots(g)
			continue
		}
		if price *= cheaper; known && (must.Moves == 0 || price < movePrice*cheaper) {
			return
		}
	}
}
