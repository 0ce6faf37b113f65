package moves

import (
	"context"
	"slices"

	"github.com/moelb/moelb/eplb/internal/fresh"
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

// moveRestarts is how many random paths are tried beside the greedy one.
const moveRestarts = 8

// Front finds the placements of a layer to choose from; f.bound is a proved
// bound on their time.
func (m *Mover) Front(ctx context.Context, f *fresh.Planner, l int, all bool) *search.Front {
	out := &search.Front{ByTime: !all}
	m.SetLayer(l)
	s := &m.S
	s.Start(m.Task.Prev)
	s.Mend()
	m.setHomes(s.Slots())
	if m.Task.Domain != nil && !s.SpreadOut() {
		f.Make()
		out.Only(s, m.adopt(f))
		return out
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
		f.Make()
		out.Only(s, m.adopt(f)) // the placement in force is none to stop at
		return out
	}
	if out.Points[0].Time <= aim || m.Idle || stop() {
		return out
	}
	goal := search.Goal{Time: aim, Moves: 1 << 30, Stop: stop}
	if all {
		m.paths(out, first, goal, f)
		return out
	}
	m.reach(out, first, goal, f)
	return out
}

// paths walks many ways, for a budget to choose from.
func (m *Mover) paths(out *search.Front, first []int32, goal search.Goal, f *fresh.Planner) {
	if len(m.Task.Share) > 1 {
		// What fits these windows best fits those to come less well.
		m.S.Ahead(out, first, norms[0], 0, goal)
		out.Fall()
		return
	}
	far := out.Points[0].Time - goal.Time
	for _, share := range rungTargets {
		to := goal
		to.Time += float64(share * far)
		m.walk(out, first, to, 0)
	}
	for _, twice := range norms {
		m.S.Ahead(out, first, twice, 0, goal)
	}
	for i := range uint64(normRestarts) {
		if m.S.Work() < moveWork {
			m.S.Ahead(out, first, norms[1], i+1, goal)
		}
	}
	m.goOn(out, goal)
	f.Make()
	full := m.adopt(f)
	out.Add(&m.S, full)
	m.retreat(out, full, goal)
}

// normRestarts is how many random paths under a norm are tried.
const normRestarts = 4

// goOn walks on from the best placement so far, where one norm after another has
// found no step.
func (m *Mover) goOn(out *search.Front, goal search.Goal) {
	for _, twice := range [...]int{6, 7, 5} {
		if goal.Stop() {
			return
		}
		m.S.Ahead(out, out.Slots(out.Points[len(out.Points)-1]), twice, 0, goal)
	}
}

// retreat goes back from a plan from scratch.
func (m *Mover) retreat(out *search.Front, full []int32, goal search.Goal) {
	m.setHomes(full)
	for _, twice := range norms {
		m.S.Retreat(out, full, twice, goal)
	}
	if len(m.Task.Share) == 1 {
		m.S.Retreat(out, full, 0, goal)
	}
}

// norms are the powers, as how often 2 is squared, of the norms that paths go by:
// the higher the nearer to the maximum.
var norms = [...]int{4, 5, 6}

// rungTargets are the levels, as shares of the way from the target to where the
// layer stands, that a path with a budget heads for.
var rungTargets = [...]float64{.5, .25, .1, 0}

// walk heads straight for a goal, on random path i. That goes by what GPUs are
// above the goal, which is known where there is one window.
func (m *Mover) walk(out *search.Front, first []int32, goal search.Goal, i uint64) {
	if len(m.Task.Share) > 1 {
		m.S.Ahead(out, first, norms[0], i, goal)
		return
	}
	m.S.Ahead(out, first, 0, i, goal)
}

// moveWork is how many changes are looked at in a layer before no further path is
// begun: a tenth of a second, which only layers of a thousand slots take. At four
// times as many a path ends where it is.
const moveWork = 1 << 24

// reach looks for the fewest moves to the goal, and leaves that of fewest moves
// within it or, if none is, of least time.
func (m *Mover) reach(out *search.Front, first []int32, goal search.Goal, f *fresh.Planner) {
	restarts, mended := m.P.Restarts, out.Points[0].Moves
	if restarts == 0 {
		restarts = moveRestarts
	}
	shorten := func() bool {
		g, ok := out.Within(goal.Time)
		if ok {
			goal.Moves = g.Moves - 1
		}
		return ok
	}
	one := len(m.Task.Share) == 1
	if m.walk(out, first, goal, 0); !shorten() && !one {
		for _, twice := range norms[1:] {
			m.S.Ahead(out, first, twice, 0, goal)
		}
		m.goOn(out, goal)
	}
	for i := range max(restarts, 0) {
		if goal.Stop() || m.S.Work() > moveWork {
			break
		}
		m.walk(out, first, goal, uint64(i)+1)
		shorten()
	}
	if !shorten() {
		f.Make()
		full := m.adopt(f)
		if out.Add(&m.S, full); m.S.Work() < moveWork {
			m.retreat(out, full, goal)
		}
	}
	if one && restarts > 0 {
		m.comeBack(out, first, goal, mended)
	}
	g, ok := out.Within(goal.Time)
	switch {
	case !ok:
		g = out.Points[len(out.Points)-1]
	case mended > 0 && g.Moves > mended && restarts > 0 && m.P.Previous.Slots() != m.P.Replicas:
		g = m.fewer(out, first, g, mended, goal)
	}
	out.Keep(g)
}

const (
	// backRounds is how often moves are taken back by annealing, as long as that pays.
	backRounds = 4
	// backDraws is how many changes are drawn for each slot.
	backDraws = 128
	// backPrice is the price of a move at first, in what the moves so far have each
	// taken of the overload.
	backPrice = .7
)

// comeBack takes moves of the best placement within the goal back by annealing,
// down to least. Without it 72 GPUs of 4 slots take half as many again, 96 of 3 a
// quarter.
func (m *Mover) comeBack(out *search.Front, first []int32, goal search.Goal, least int) {
	s := &m.S
	s.Start(first)
	over := backPrice * s.Overload(goal.Time)
	for range backRounds {
		g, ok := out.Within(goal.Time)
		if !ok || g.Moves <= least {
			return
		}
		slot := out.Slots(g)
		m.setHomes(slot)
		s.Start(slot)
		m.cold.Fewer(s, backDraws*len(slot), goal.Time, over/float64(g.Moves), least, m.ended)
		goal.Moves = g.Moves - 1
		m.walk(out, slices.Clone(s.Slots()), goal, 0)
		if h, _ := out.Within(goal.Time); h.Moves == g.Moves {
			return
		}
	}
}
