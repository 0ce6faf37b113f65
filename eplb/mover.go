package eplb

import (
	"math"
	"math/rand/v2"
	"slices"
)

// mover brings one layer's placement to a target level with few moves. From the
// most loaded GPU it takes, one after another, the change that takes away most
// overload for each slot that must be filled anew: an exchange of two replicas
// (two moves at most), or a slot that changes its expert (one), which changes
// replica counts and with them the load of every holder of the two experts.
// Slots that come to hold again what they held before cost nothing.
//
// Overload is what the GPUs carry above the target, summed. Greedy paths differ
// in length, so a few random ones are tried beside the plain one.
type mover struct {
	u     *unit
	words int
	w     []float64
	T     float64

	prev    []int32  // expert in each slot of the placement in force; -1 = none
	had     []uint64 // the set of experts of each GPU then
	start   []int32  // where paths start: prev, mended
	twoEach bool     // two slots a GPU and equal speeds

	slot  []int32
	gpu   []int32 // of each slot
	count []int32
	size  []float64 // of a replica of each expert
	load  []float64
	has   []uint64
	at    [][]int32 // slots of each expert's replicas

	home      []int32 // node of each expert; nil = anywhere
	off       int     // replicas that are not at home
	mostOff   int
	nodeShare float64 // of nodeShares
	twoNodes  bool    // every expert must be on two nodes

	looks int     // what is left of the work on a plan with every expert on two nodes
	spare []int32 // slots that can do without what they hold
	top   change  // the best considered
	moves int
	pair  pairMover
	rng   *rand.Rand // nil = the plain path
}

func newMover(u *unit, experts int) *mover {
	gpus := len(u.gpu)
	words := (experts + 63) / 64
	m := &mover{u: u, words: words,
		prev: make([]int32, u.slots), had: make([]uint64, gpus*words),
		slot: make([]int32, u.slots), gpu: make([]int32, u.slots), count: make([]int32, experts), size: make([]float64, experts),
		load: make([]float64, gpus), has: make([]uint64, gpus*words), at: make([][]int32, experts),
	}
	m.twoEach = u.equal && u.slots == 2*gpus
	for g := range gpus {
		for s := u.first[g]; s < u.first[g+1]; s++ {
			m.gpu[s] = int32(g)
		}
		m.twoEach = m.twoEach && u.room(g) == 2
	}
	return m
}

// reset starts from the placement in force. Every expert must have a replica.
func (m *mover) reset() {
	clear(m.count)
	clear(m.has)
	for e := range m.at {
		m.at[e] = m.at[e][:0]
	}
	copy(m.slot, m.start)
	for s, e := range m.slot {
		if e >= 0 {
			m.count[e]++
			m.at[e] = append(m.at[e], int32(s))
			m.has[int(m.gpu[s])*m.words+int(e>>6)] |= 1 << (e & 63)
		}
	}
	for e, n := range m.count {
		m.recount(int32(e), max(n, 1))
		m.count[e] = n
	}
	m.reload()
	m.recost()
}

// reload adds up the loads of the GPUs.
func (m *mover) reload() {
	for g := range m.load {
		sum := 0.0
		for _, e := range m.slot[m.u.first[g]:m.u.first[g+1]] {
			if e >= 0 {
				sum += m.size[e]
			}
		}
		m.load[g] = sum
	}
}

func (m *mover) holds(g int, e int32) bool { return m.has[g*m.words+int(e>>6)]>>(e&63)&1 != 0 }
func (m *mover) held(g int, e int32) bool  { return m.had[g*m.words+int(e>>6)]>>(e&63)&1 != 0 }

// cost is how many moves more or less it takes that a slot of GPU g holds e
// instead of f.
func (m *mover) cost(g int, f, e int32) int {
	c := 0
	if e >= 0 && !m.held(g, e) {
		c++
	}
	if f >= 0 && !m.held(g, f) {
		c--
	}
	return c
}

// over is what a load of GPU g is above the target.
func (m *mover) over(g int, load float64) float64 {
	return max(0, load-float64(m.T*m.u.speed[g]))
}

// change is a step: slot a comes to hold what slot b holds and the other way
// round (b ≥ 0), or slot a comes to hold expert e (b = -1).
type change struct {
	a, b int32
	e    int32
	gain float64
	cost int
	fit  float64
}

// step finds the best change at the most loaded GPU; ok is false if the target is
// reached or nothing helps. Cost: O(slots·slots a GPU).
func (m *mover) step() (best change, ok bool) {
	u := m.u
	h, top := 0, 0.0
	for g, v := range u.speed {
		if l := m.load[g] / v; l > top {
			h, top = g, l
		}
	}
	if top <= m.T {
		return best, false
	}
	m.top = change{a: -1}
	m.exchanges(h)
	m.spare = m.spare[:0]
	for j, f := range m.slot {
		if f < 0 || m.mayDrop(int32(j)) {
			m.spare = append(m.spare, int32(j))
		}
	}
	for i := u.first[h]; i < u.first[h+1]; i++ {
		e := m.slot[i]
		if e < 0 {
			continue
		}
		// One copy more of e elsewhere.
		if n := m.count[e]; int(n) < len(u.gpu) {
			for _, j := range m.spare {
				g, f := int(m.gpu[j]), m.slot[j]
				if m.holds(g, e) || !m.may(g, e, f) {
					continue
				}
				m.consider(change{a: j, b: -1, e: e, gain: m.gainOf(g, f, e), cost: m.cost(g, f, e)})
			}
		}
		// This copy of e makes room for another expert.
		if m.mayDrop(int32(i)) {
			for x := range m.w {
				f := int32(x)
				if m.holds(h, f) || !m.may(h, f, e) {
					continue
				}
				m.consider(change{a: int32(i), b: -1, e: f, gain: m.gainOf(h, e, f), cost: m.cost(h, e, f)})
			}
		}
	}
	return m.top, m.top.a >= 0
}

// exchanges considers replicas of GPU h for smaller ones elsewhere.
func (m *mover) exchanges(h int) {
	u := m.u
	overH := m.over(h, m.load[h])
	for g, v := range u.speed {
		room := float64(m.T*v) - m.load[g]
		if g == h || room <= 0 {
			continue
		}
		for i := u.first[h]; i < u.first[h+1]; i++ {
			e := m.slot[i]
			if e < 0 || m.holds(g, e) {
				continue
			}
			a := m.size[e]
			for j := u.first[g]; j < u.first[g+1]; j++ {
				f := m.slot[j]
				if f < 0 {
					continue
				}
				d := a - m.size[f]
				if d <= 0 || m.holds(h, f) {
					continue
				}
				gain := min(d, overH)
				if d > room {
					gain -= d - room
				}
				if gain <= 0 || !m.mayExchange(int32(i), int32(j)) {
					continue
				}
				m.consider(change{a: int32(i), b: int32(j), gain: gain, cost: m.cost(h, e, f) + m.cost(g, f, e), fit: math.Abs(room - d)})
			}
		}
	}
}

// consider keeps c if it mends more a move than the best so far, or as much and
// fits better. A change that takes no move, or gives one back, comes first.
func (m *mover) consider(c change) {
	if c.gain <= 1e-12 {
		return
	}
	if m.rng != nil {
		c.gain *= 1 - .6*m.rng.Float64()
	}
	if m.top.a >= 0 {
		cc, bc := float64(max(c.cost, 0)), float64(max(m.top.cost, 0))
		x, y := c.gain*bc, m.top.gain*cc
		if cc == 0 && bc == 0 {
			x, y = c.gain, m.top.gain
		}
		if x < y || (x == y && c.fit >= m.top.fit) {
			return
		}
	}
	m.top = c
}

// may says whether locality lets a slot of GPU g hold e instead of f.
func (m *mover) may(g int, e, f int32) bool {
	if m.home == nil || m.home[e] == int32(m.u.node[g]) {
		return true
	}
	off := m.off + 1
	if f >= 0 && m.home[f] != int32(m.u.node[g]) {
		off--
	}
	return off <= m.mostOff
}

// gainOf is the overload that goes when a slot of GPU g holds e instead of f.
func (m *mover) gainOf(g int, f, e int32) float64 {
	// The holders of e lose some, those of f gain some, and g both and more.
	gain := 0.0
	n := float64(m.count[e])
	less := m.w[e] / (n * (n + 1))
	dg := m.w[e] / (n + 1)
	more := 0.0
	if f >= 0 {
		k := float64(m.count[f])
		dg -= m.w[f] / k
		more = m.w[f] / (k * (k - 1))
	}
	for _, s := range m.at[e] {
		q := int(m.gpu[s])
		d := -less
		if f >= 0 && m.holds(q, f) && q != g {
			d += more
		}
		gain += m.over(q, m.load[q]) - m.over(q, m.load[q]+d)
	}
	if f >= 0 {
		for _, s := range m.at[f] {
			q := int(m.gpu[s])
			if q == g || m.holds(q, e) {
				continue
			}
			gain += m.over(q, m.load[q]) - m.over(q, m.load[q]+more)
		}
	}
	return gain + m.over(g, m.load[g]) - m.over(g, m.load[g]+dg)
}

// apply makes a change.
func (m *mover) apply(c change) {
	m.moves += c.cost
	if m.home != nil {
		m.off += m.offBy(c.a, -1)
		if c.b >= 0 {
			m.off += m.offBy(c.b, -1)
		}
		defer func() {
			m.off += m.offBy(c.a, 1)
			if c.b >= 0 {
				m.off += m.offBy(c.b, 1)
			}
		}()
	}
	if c.b >= 0 {
		e, f := m.slot[c.a], m.slot[c.b]
		d := m.size[e] - m.size[f]
		m.load[m.gpu[c.a]] -= d
		m.load[m.gpu[c.b]] += d
		m.hold(c.a, e, f)
		m.hold(c.b, f, e)
		return
	}
	f, e := m.slot[c.a], c.e
	m.charge(f, -1)
	m.charge(e, -1)
	m.hold(c.a, f, e)
	if f >= 0 {
		m.recount(f, m.count[f]-1)
	}
	m.recount(e, m.count[e]+1)
	m.charge(f, 1)
	m.charge(e, 1)
}

// offBy is by if slot s holds a replica that is not at home, else 0.
func (m *mover) offBy(s int32, by int) int {
	if e := m.slot[s]; e >= 0 && m.home[e] != int32(m.u.node[m.gpu[s]]) {
		return by
	}
	return 0
}

// charge adds the replicas of e to the loads of their GPUs, sign times.
func (m *mover) charge(e int32, sign float64) {
	if e < 0 {
		return
	}
	for _, s := range m.at[e] {
		m.load[m.gpu[s]] += sign * m.size[e]
	}
}

// recount sets the number of replicas of e.
func (m *mover) recount(e, n int32) {
	m.count[e] = n
	m.size[e] = m.w[e] / float64(n)
}

// hold makes slot s hold e instead of f (-1 = nothing) but for the loads.
func (m *mover) hold(s, f, e int32) {
	g := int(m.gpu[s])
	m.slot[s] = e
	if f >= 0 {
		i := slices.Index(m.at[f], s)
		m.at[f] = slices.Delete(m.at[f], i, i+1)
		m.has[g*m.words+int(f>>6)] &^= 1 << (f & 63)
	}
	m.at[e] = append(m.at[e], s)
	m.has[g*m.words+int(e>>6)] |= 1 << (e & 63)
}

func (m *mover) level() float64 {
	top := 0.0
	for g, v := range m.u.speed {
		top = max(top, m.load[g]/v)
	}
	return top
}
