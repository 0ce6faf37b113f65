package eplb

import (
	"context"
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/moelb/moelb/placement"
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
	layers := len(p.Loads)
	r := newResult(p)
	u := newUnit(&p.Topology, p.Replicas, p.Loads.Experts(), nil)
	ladders := make([][]rung, layers)
	bounds := make([]float64, layers)
	stopped := make([]bool, layers)
	limited := o.MaxMoves != 0
	inParallel(o.Workers, layers, func() func(l int) {
		s := newSolver(u, p.Loads.Experts())
		m := newMover(u, p.Loads.Experts())
		return func(l int) {
			s.setLoads(p.Loads[l])
			ladders[l], bounds[l] = m.ladder(ctx, s, p, o, l, limited)
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
	for l := range ladders {
		g := ladders[l][taken[l]]
		writeRow(u, g.slot, r.Placement.PhysicalToLogical[l])
		out := Layer{Imbalance: g.level, LowerBound: min(bounds[l], g.level), Moves: g.moves}
		switch {
		case g.level <= bounds[l]*(1+provedTolerance):
			out.Status = Proved
		case stopped[l]:
			out.Status = Stopped
		}
		r.Layers[l] = out
	}
	return r
}

// newResult is an empty result of p's shape.
func newResult(p *Problem) Result {
	layers := len(p.Loads)
	r := Result{
		Placement: placement.Placement{Experts: p.Loads.Experts(), GPUs: p.Topology.GPUs, PhysicalToLogical: make([][]int, layers)},
		Layers:    make([]Layer, layers),
	}
	if p.Replicas%p.Topology.GPUs != 0 {
		r.Placement.GPUSlots = placement.EvenSlots(p.Replicas, p.Topology.GPUs)
	}
	cells := make([]int, layers*p.Replicas)
	for l := range r.Placement.PhysicalToLogical {
		r.Placement.PhysicalToLogical[l] = cells[l*p.Replicas : (l+1)*p.Replicas : (l+1)*p.Replicas]
	}
	return r
}

// inParallel calls do for 0..n-1, workers at a time (0 = GOMAXPROCS), each with
// memory of its own that worker makes.
func inParallel(workers, n int, worker func() (do func(i int))) {
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Int64
	work := func() {
		do := worker()
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			do(i)
		}
	}
	var wg sync.WaitGroup
	for range min(workers, n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// writeRow writes the slots of a unit into a row of a placement, -1 elsewhere.
func writeRow(u *unit, slot []int32, row []int) {
	for i := range row {
		row[i] = -1
	}
	for g, at := range u.start {
		for i, e := range slot[u.first[g]:u.first[g+1]] {
			row[at+i] = int(e)
		}
	}
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

// ladder finds the rungs of a layer and a proved bound on its level.
func (m *mover) ladder(ctx context.Context, s *solver, p *Problem, o *Options, l int, all bool) ([]rung, float64) {
	m.w = s.w
	m.sortLoads()
	m.read(p, l)
	m.reset()
	m.mend()
	first := rung{slices.Clone(m.slot), m.moves, m.level()}
	m.start = first.slot
	ladder := []rung{first}
	bound := s.replicaBound()
	aim := o.Target
	stop := func() bool { return ctx.Err() != nil }
	if aim == 0 {
		// A plan from scratch shows what can be reached.
		bound = s.search(2e-4, stop)
		aim = max(s.best.level, 1) * 1.01
	}
	if first.level <= aim || stop() {
		return ladder, bound
	}
	restarts := o.Restarts
	if restarts == 0 {
		restarts = moveRestarts
	}
	if all {
		for _, x := range rungTargets {
			if g, ok := m.reach(aim+float64(x*(first.level-aim)), 0, stop); ok {
				ladder = append(ladder, g)
			}
		}
	}
	g, ok := m.reach(aim, restarts, stop)
	if !ok {
		// Greed did not get there: see what a plan from scratch reaches.
		if o.Target != 0 {
			bound = max(bound, s.search(2e-4, stop))
		}
		if t := max(aim, s.best.level*(1+1e-9)); t > aim {
			g, ok = m.reach(t, restarts, stop)
		}
		if !ok && s.best.level < g.level {
			if f := m.adopt(s); f.level < g.level {
				g = f
			}
		}
	}
	if g.level < ladder[len(ladder)-1].level {
		ladder = append(ladder, g)
	}
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
	return out, bound
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
		m.rng = nil
		if i > 0 {
			m.rng = rand.New(rand.NewPCG(uint64(i), 0))
		}
		m.reset()
		for !ok || m.moves < best.moves {
			c, more := m.step()
			if !more {
				break
			}
			m.apply(c)
		}
		take()
		if m.twoEach && m.home == nil {
			m.reset()
			if m.pairMoves() {
				take()
			}
		}
	}
	m.rng = nil
	m.settleKept(best.slot)
	return best, ok
}

// read takes layer l of the placement in force. Slots of GPUs out of service
// are left out, and so are slots beyond those that the unit uses.
func (m *mover) read(p *Problem, l int) {
	clear(m.had)
	row := p.Previous.PhysicalToLogical[l]
	first := p.Previous.FirstSlots()
	for g, gpu := range m.u.gpu {
		for i, s := 0, m.u.first[g]; s < m.u.first[g+1]; i, s = i+1, s+1 {
			m.prev[s] = -1
			if gpu >= p.Previous.GPUs || first[gpu]+i >= first[gpu+1] {
				continue
			}
			if e := row[first[gpu]+i]; e >= 0 {
				m.prev[s] = int32(e)
				m.had[g*m.words+e>>6] |= 1 << (e & 63)
			}
		}
	}
	m.start = m.prev
}

// mend gives every expert without a replica a slot, and every empty slot a
// replica: copies of the hottest experts come to the least loaded GPUs, and an
// expert that died takes the place of a copy that is missed least.
func (m *mover) mend() {
	for e := range m.count {
		if m.count[e] > 0 {
			continue
		}
		best, top := -1, math.Inf(1)
		for s, f := range m.slot {
			if f >= 0 && m.count[f] < 2 {
				continue
			}
			g := int(m.gpu[s])
			// What the fullest GPU concerned carries afterwards.
			l := (m.load[g] + m.w[e]) / m.u.speed[g]
			if f >= 0 {
				l = (m.load[g] - m.size[f] + m.w[e]) / m.u.speed[g]
				n := float64(m.count[f])
				for _, q := range m.at[f] {
					if q != int32(s) {
						l = max(l, (m.load[m.gpu[q]]+m.w[f]/(n*(n-1)))/m.u.speed[m.gpu[q]])
					}
				}
			}
			if l < top {
				best, top = s, l
			}
		}
		if best < 0 {
			continue // validate has seen to the room
		}
		m.fill(best, int32(e))
	}
	for {
		// The emptiest GPU with a free slot takes the copy that helps most.
		free := -1
		for s, f := range m.slot {
			if f < 0 && (free < 0 || m.load[m.gpu[s]]/m.u.speed[m.gpu[s]] < m.load[m.gpu[free]]/m.u.speed[m.gpu[free]]) {
				free = s
			}
		}
		if free < 0 {
			return
		}
		g := int(m.gpu[free])
		best, most := int32(-1), -1.0
		for e := range m.w {
			if !m.holds(g, int32(e)) && m.size[e] > most {
				best, most = int32(e), m.size[e]
			}
		}
		m.fill(free, best)
	}
}

// fill makes slot s hold e, whatever it held.
func (m *mover) fill(s int, e int32) {
	g := int(m.gpu[s])
	m.apply(change{a: int32(s), b: -1, e: e, cost: m.cost(g, m.slot[s], e)})
}

// settleKept gives experts that stayed on their GPU the slots they had.
func (m *mover) settleKept(slot []int32) {
	u := m.u
	for g := range u.gpu {
		for s := u.first[g]; s < u.first[g+1]; s++ {
			e := slot[s]
			for e >= 0 && e != m.prev[s] {
				i := slices.Index(m.prev[u.first[g]:u.first[g+1]], e)
				if i < 0 || slot[u.first[g]+i] == e {
					break
				}
				slot[s], slot[u.first[g]+i] = slot[u.first[g]+i], e
				e = slot[s]
			}
		}
	}
}

// adopt takes the solver's best plan, its GPUs renamed so that as few experts
// as may be must move.
func (m *mover) adopt(s *solver) rung {
	u := m.u
	g := rung{slot: slices.Clone(s.best.slot), level: s.best.level}
	n := len(u.gpu)
	alike := u.equal
	for q := range n {
		alike = alike && u.room(q) == u.room(0)
	}
	if alike && n <= 512 && m.home == nil {
		sets := make([]uint64, n*m.words)
		for q := range n {
			for _, e := range s.best.slot[u.first[q]:u.first[q+1]] {
				sets[q*m.words+int(e>>6)] |= 1 << (e & 63)
			}
		}
		cost := make([]int32, n*n)
		for old := range n {
			for q := range n {
				kept := 0
				for i := range m.words {
					kept += bits.OnesCount64(m.had[old*m.words+i] & sets[q*m.words+i])
				}
				cost[old*n+q] = int32(-kept)
			}
		}
		for old, q := range assign(cost, n) {
			copy(g.slot[u.first[old]:u.first[old+1]], s.best.slot[u.first[q]:u.first[q+1]])
		}
	}
	m.settleKept(g.slot)
	for i, e := range g.slot {
		if e >= 0 && !m.held(int(m.gpu[i]), e) {
			g.moves++
		}
	}
	return g
}

// assign returns the assignment of rows to columns of least cost, [n][n], by
// shortest augmenting paths (Jonker and Volgenant). Cost: O(n³).
func assign(cost []int32, n int) []int {
	u, v := make([]int32, n+1), make([]int32, n+1)
	row := make([]int, n+1) // of each column, 0 = none, numbered from 1
	way := make([]int, n+1)
	least := make([]int32, n+1)
	done := make([]bool, n+1)
	for i := 1; i <= n; i++ {
		row[0] = i
		for j := range least {
			least[j], done[j] = math.MaxInt32, false
		}
		j := 0
		for row[j] != 0 {
			done[j] = true
			r, delta, next := row[j], int32(math.MaxInt32), 0
			for k := 1; k <= n; k++ {
				if done[k] {
					continue
				}
				if c := cost[(r-1)*n+k-1] - u[r] - v[k]; c < least[k] {
					least[k], way[k] = c, j
				}
				if least[k] < delta {
					delta, next = least[k], k
				}
			}
			for k := 0; k <= n; k++ {
				if done[k] {
					u[row[k]] += delta
					v[k] -= delta
				} else {
					least[k] -= delta
				}
			}
			j = next
		}
		for j != 0 {
			row[j] = row[way[j]]
			j = way[j]
		}
	}
	out := make([]int, n)
	for j := 1; j <= n; j++ {
		out[row[j]-1] = j - 1
	}
	return out
}
