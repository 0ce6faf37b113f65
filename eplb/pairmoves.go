package eplb

import (
	"cmp"
	"math"
	"slices"
)

// Moves for two slots a GPU and equal speeds. Given counts, the fewest GPUs that
// must be broken up are found exactly. Break those above the target; then for
// every size t of a broken replica above half the target, from the largest down,
// while more broken replicas are of at least t than there are broken partners of
// at most the target less t, break the intact pair with such a partner whose own
// larger replica is below t and smallest. The broken replicas are folded, old and
// new pairs form cycles, and going round a cycle one way every GPU keeps one of
// its two: a broken GPU costs one move.
//
// Counts come first: one copy after another goes from an expert to another while
// the fold of all replicas is above the target, where its excess falls most.

// pairMover is the memory of pairMoves.
type pairMover struct {
	order  []int32 // experts by load, largest first
	runs   []run   // experts with several copies, the largest replica first
	trial  []run
	swaps  []choice // copies that change their expert from n to to
	broken []bool   // of each GPU
	items  []held   // broken replicas, the largest first
	intact []int32  // GPUs by their larger replica, smallest first
	mates  []int32
}

// held is a replica in a slot.
type held struct {
	size float64
	slot int32
}

// pairMoves brings m to its target from the placement in force, which m is reset
// to, and says whether it could before stop.
func (m *mover) pairMoves(stop func() bool) bool {
	p := &m.pair
	if !m.shiftCopies(stop) {
		return false
	}
	p.intact = p.intact[:0]
	for g := range m.u.gpu {
		p.intact = append(p.intact, int32(g))
	}
	// Where each copy is given up and taken makes a difference: try each place.
	for _, c := range p.swaps {
		if !m.placeCopy(c.n, c.to) {
			return false
		}
	}
	for range 2 {
		for _, c := range p.swaps {
			if !stop() {
				m.replaceCopy(c.n, c.to)
			}
		}
	}
	if m.breakPairs() < 0 {
		return false
	}
	return m.foldBroken()
}

// larger is the size of the larger replica of GPU g, smaller that of the other.
func (m *mover) larger(g int32) float64 {
	return max(m.size[m.slot[2*g]], m.size[m.slot[2*g+1]])
}

func (m *mover) smaller(g int32) float64 {
	return min(m.size[m.slot[2*g]], m.size[m.slot[2*g+1]])
}

// breakPairs finds the GPUs to break and returns how many; -1 = the target
// cannot be reached with these counts.
func (m *mover) breakPairs() int {
	p := &m.pair
	p.broken = slices.Grow(p.broken[:0], len(m.u.gpu))[:len(m.u.gpu)]
	p.items = p.items[:0]
	n := 0
	for g := range m.u.gpu {
		p.broken[g] = m.size[m.slot[2*g]]+m.size[m.slot[2*g+1]] > m.T
		if p.broken[g] {
			n++
			p.items = append(p.items, held{m.size[m.slot[2*g]], int32(2 * g)}, held{m.size[m.slot[2*g+1]], int32(2*g + 1)})
		}
	}
	if n == 0 {
		return 0
	}
	slices.SortFunc(p.items, func(a, b held) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.slot, b.slot)) })
	slices.SortFunc(p.intact, func(a, b int32) int { return cmp.Or(cmp.Compare(m.larger(a), m.larger(b)), cmp.Compare(a, b)) })
	lo := len(p.items) // items from here on are of at most T-t
	for hi := 0; hi < len(p.items) && p.items[hi].size > m.T/2; hi++ {
		t := p.items[hi].size
		if hi+1 < len(p.items) && p.items[hi+1].size == t {
			continue
		}
		for lo > 0 && p.items[lo-1].size <= m.T-t {
			lo--
		}
		for hi+1 > len(p.items)-lo {
			found := false
			for _, g := range p.intact {
				if p.broken[g] || m.smaller(g) > m.T-t {
					continue
				}
				if m.larger(g) >= t {
					break
				}
				found = true
				p.broken[g] = true
				n++
				for _, s := range [2]int32{2 * g, 2*g + 1} {
					it := held{m.size[m.slot[s]], s}
					i := len(p.items)
					p.items = append(p.items, it)
					for ; i > 0 && p.items[i-1].size < it.size; i-- {
						p.items[i] = p.items[i-1]
					}
					p.items[i] = it
				}
				lo = len(p.items)
				for lo > 0 && p.items[lo-1].size <= m.T-t {
					lo--
				}
				break
			}
			if !found {
				return -1
			}
		}
	}
	return n
}

// foldBroken pairs the broken replicas anew and gives each pair a GPU that held
// one of the two.
func (m *mover) foldBroken() bool {
	p := &m.pair
	n := len(p.items)
	if n == 0 {
		m.reload()
		m.recost()
		return true
	}
	// Two replicas of one expert must not meet: exchange with a neighbouring pair.
	expert := func(i int) int32 { return m.slot[p.items[i].slot] }
	for i := 0; i < n/2; i++ {
		j := n - 1 - i
		if expert(i) != expert(j) {
			continue
		}
		ok := false
		for k := 0; k < n/2 && !ok; k++ {
			q := n - 1 - k
			if k == i || expert(k) == expert(j) || expert(q) == expert(i) {
				continue
			}
			if p.items[i].size+p.items[q].size <= m.T && p.items[k].size+p.items[j].size <= m.T {
				p.items[j], p.items[q] = p.items[q], p.items[j]
				ok = true
			}
		}
		if !ok {
			return false
		}
	}
	// mates[slot] = the slot of the new partner.
	p.mates = slices.Grow(p.mates[:0], len(m.slot))[:len(m.slot)]
	for i := range n / 2 {
		a, b := p.items[i].slot, p.items[n-1-i].slot
		p.mates[a], p.mates[b] = b, a
	}
	type put struct{ slot, e int32 }
	var puts []put
	for g := range m.u.gpu {
		if !p.broken[g] {
			continue
		}
		// Walk the cycle: GPU g keeps its first replica and takes its partner.
		at := int32(2 * g)
		for p.broken[at/2] {
			p.broken[at/2] = false
			mate := p.mates[at]
			if mate/2 != at/2 {
				puts = append(puts, put{at ^ 1, m.slot[mate]})
			}
			at = mate ^ 1
		}
	}
	for _, x := range puts {
		m.unhold(x.slot)
	}
	for _, x := range puts {
		m.hold(x.slot, -1, x.e)
	}
	m.reload()
	m.recost()
	return true
}

// unhold empties slot s but for the loads.
func (m *mover) unhold(s int32) {
	f := m.slot[s]
	g := int(m.gpu[s])
	i := slices.Index(m.at[f], s)
	m.at[f] = slices.Delete(m.at[f], i, i+1)
	m.slot[s] = -1
	if other := m.slot[s^1]; other != f {
		m.has[g*m.words+int(f>>6)] &^= 1 << (f & 63)
	}
}

// recost counts the moves anew.
func (m *mover) recost() {
	m.moves = 0
	for s, e := range m.slot {
		if e >= 0 && !m.held(int(m.gpu[s]), e) {
			m.moves++
		}
	}
}

// placeCopy makes one slot of f hold e, the first that may, and says whether one
// does.
func (m *mover) placeCopy(f, e int32) bool {
	for _, s := range m.at[f] {
		if !m.holds(int(m.gpu[s]), e) {
			m.hold(s, f, e)
			return true
		}
	}
	return false
}

// replaceCopy looks whether another slot of f had better hold e.
func (m *mover) replaceCopy(f, e int32) {
	slots := slices.Clone(m.at[f])
	taken := int32(-1)
	for _, s := range m.at[e] {
		if m.prev[s] == f && !m.held(int(m.gpu[s]), e) {
			taken = s
		}
	}
	if taken < 0 {
		return
	}
	best, bestS := m.breakPairs(), int32(-1)
	if best < 0 {
		return
	}
	for _, s := range slots {
		if m.holds(int(m.gpu[s]), e) || m.holds(int(m.gpu[taken]), f) {
			continue
		}
		m.hold(taken, e, f)
		m.hold(s, f, e)
		if n := m.breakPairs(); n >= 0 && n < best {
			best, bestS = n, s
		}
		m.hold(s, e, f)
		m.hold(taken, f, e)
	}
	if bestS >= 0 {
		m.hold(taken, e, f)
		m.hold(bestS, f, e)
	}
}

// folded is what a fold carries above an aim.
type folded struct {
	excess float64 // summed over the pairs
	most   float64 // the fullest pair
	big    float64 // the larger of its two
}

// fold pairs the largest replica with the smallest, and so on inwards, as long
// as a pair can exceed aim or the walk has found less than enough. Replicated
// experts come from runs, the others from m.pair.order.
func (m *mover) fold(runs []run, aim, enough float64) folded {
	var f folded
	top, bottom := 0, len(m.pair.order)-1 // of the experts with one replica
	hi, lo := 0, len(runs)-1              // of the runs
	var hiLeft, loLeft int32
	if lo >= 0 {
		hiLeft, loLeft = runs[0].n, runs[lo].n
	}
	for range len(m.u.gpu) {
		for top < len(m.pair.order) && m.count[m.pair.order[top]] > 1 {
			top++
		}
		for bottom >= 0 && m.count[m.pair.order[bottom]] > 1 {
			bottom--
		}
		var a, b float64
		if hi < len(runs) && (top >= len(m.pair.order) || runs[hi].size >= m.w[m.pair.order[top]]) {
			a = runs[hi].size
			if hiLeft--; hiLeft == 0 {
				if hi++; hi < len(runs) {
					hiLeft = runs[hi].n
				}
			}
		} else {
			a = m.w[m.pair.order[top]]
			top++
		}
		if lo >= 0 && (bottom < 0 || runs[lo].size <= m.w[m.pair.order[bottom]]) {
			b = runs[lo].size
			if loLeft--; loLeft == 0 {
				if lo--; lo >= 0 {
					loLeft = runs[lo].n
				}
			}
		} else {
			b = m.w[m.pair.order[bottom]]
			bottom--
		}
		x := a + b
		if x > f.most {
			f.most, f.big = x, a
		}
		if x > aim {
			f.excess += x - aim
			if f.excess >= enough {
				return f
			}
		}
		if a <= aim/2 {
			return f
		}
	}
	return f
}

// shiftCopies changes counts until their fold is within the target and says
// whether it got there before stop; p.swaps lists the changes.
func (m *mover) shiftCopies(stop func() bool) bool {
	p := &m.pair
	p.swaps = p.swaps[:0]
	m.listRuns()
	for now := m.fold(p.runs, m.T, math.Inf(1)); now.excess > 0; {
		big, small := now.big, m.T-now.big
		bestE, bestF, best := int32(-1), int32(-1), now
		rate := 0.0
		for _, f := range p.runs {
			if stop() {
				return false
			}
			// Each copy of f that is left would exceed the target by this much.
			left := float64(f.n - 1)
			if x := m.w[f.id]/left - m.T; x > 0 && x*left >= best.excess {
				continue
			}
			m.count[f.id]--
			fillers := 0
			for _, e := range p.order {
				c := m.count[e]
				x, y := m.w[e]/float64(c), m.w[e]/float64(c+1)
				// A further copy of e must take big replicas away or add small ones.
				if e == f.id || int(c) >= len(m.u.gpu) || (x < big && y > small) {
					continue
				}
				if x <= small {
					// Which cold expert is cut for one filler more matters little.
					if fillers++; fillers > 3 {
						break
					}
				}
				m.count[e]++
				p.trial = p.trial[:0]
				for _, r := range p.runs {
					if r.id != e && r.id != f.id {
						p.trial = append(p.trial, r)
					}
				}
				p.trial = insertRun(p.trial, run{y, e, c + 1})
				if f.n > 2 {
					p.trial = insertRun(p.trial, run{m.w[f.id] / left, f.id, f.n - 1})
				}
				enough := now.excess
				if m.rng == nil {
					enough = best.excess
				}
				if v := m.fold(p.trial, m.T, enough); v.excess < now.excess {
					gain := now.excess - v.excess
					if m.rng != nil {
						gain *= 1 - .6*m.rng.Float64()
					}
					if gain > rate {
						rate = gain
						bestE, bestF, best = e, f.id, v
					}
				}
				m.count[e]--
			}
			m.count[f.id]++
		}
		if bestE < 0 {
			return false
		}
		m.count[bestE]++
		m.count[bestF]--
		p.swaps = append(p.swaps, choice{bestF, bestE, bestF})
		m.listRuns()
		now = best
	}
	for e, n := range m.count {
		m.recount(int32(e), n)
	}
	return true
}

// listRuns lists the experts with several copies by the size of a replica.
func (m *mover) listRuns() {
	m.pair.runs = m.pair.runs[:0]
	for e, n := range m.count {
		if n > 1 {
			m.pair.runs = insertRun(m.pair.runs, run{m.w[e] / float64(n), int32(e), n})
		}
	}
}

// sortLoads sorts the experts by load, largest first, ties by index.
func (m *mover) sortLoads() {
	p := &m.pair
	p.order = p.order[:0]
	for e := range m.w {
		p.order = append(p.order, int32(e))
	}
	slices.SortStableFunc(p.order, func(a, b int32) int { return cmp.Compare(m.w[b], m.w[a]) })
}
