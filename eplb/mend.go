package eplb

import (
	"math"
	"slices"
)

// read takes layer l of the placement in force. Slots of GPUs out of service
// are left out; what is in slots beyond those that the unit uses comes to others.
func (m *mover) read(p *Problem, l int) {
	clear(m.had)
	row := p.Previous.PhysicalToLogical[l]
	first := p.Previous.FirstSlots()
	for g, gpu := range m.u.gpu {
		slot := m.prev[m.u.first[g]:m.u.first[g+1]]
		for i := range slot {
			slot[i] = -1
		}
		if gpu >= p.Previous.GPUs {
			continue
		}
		// The second of an expert on its GPU counts as an empty slot.
		old := row[first[gpu]:first[gpu+1]]
		for i, e := range old {
			if e < 0 || m.held(g, int32(e)) {
				continue
			}
			m.had[g*m.words+e>>6] |= 1 << (e & 63)
			if i < len(slot) {
				slot[i] = int32(e)
			} else if k := slices.Index(slot, -1); k >= 0 {
				slot[k] = int32(e) // a slot that the unit does not use
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
		resort, last := -1, math.Inf(1)
		for s, f := range m.slot {
			if f >= 0 && m.count[f] < 2 {
				continue
			}
			// Copies without which an expert would be on one node come last.
			if f >= 0 && m.twoNodes && !m.mayDrop(int32(s)) {
				if l := m.fillLevel(s, int32(e)); best < 0 && l < last {
					resort, last = s, l
				}
				continue
			}
			if l := m.fillLevel(s, int32(e)); l < top {
				best, top = s, l
			}
		}
		if best < 0 {
			best = resort
		}
		if best < 0 {
			continue // validate has seen to the room
		}
		m.fill(best, int32(e))
	}
	m.fillEmpty()
}

// fillEmpty gives every empty slot a replica, the emptiest GPU's first: of an
// expert that must come to another node, else of the expert whose replicas are
// largest.
func (m *mover) fillEmpty() {
	u := m.u
	empty := make([]int, len(u.gpu)) // slots of each GPU
	left := 0
	for s, f := range m.slot {
		if f < 0 {
			empty[m.gpu[s]]++
			left++
		}
	}
	if left == 0 {
		return
	}
	var lone []int32 // on one node only
	for e := range m.w {
		if m.twoNodes && !m.spread(int32(e), -1, -1) {
			lone = append(lone, int32(e))
		}
	}
	for ; left > 0; left-- {
		g := -1
		for q, n := range empty {
			if n > 0 && (g < 0 || m.load[q]/u.speed[q] < m.load[g]/u.speed[g]) {
				g = q
			}
		}
		best, most := int32(-1), -1.0
		for _, e := range lone {
			if m.size[e] > most && m.spread(e, -1, u.node[g]) {
				best, most = e, m.size[e]
			}
		}
		if best >= 0 {
			i := slices.Index(lone, best)
			lone = slices.Delete(lone, i, i+1)
		} else {
			for e, x := range m.size {
				if x > most && !m.holds(g, int32(e)) {
					best, most = int32(e), x
				}
			}
		}
		m.fill(u.first[g]+slices.Index(m.slot[u.first[g]:u.first[g+1]], -1), best)
		empty[g]--
	}
}

// fillLevel is what the fullest GPU concerned carries when slot s holds e, by speed.
func (m *mover) fillLevel(s int, e int32) float64 {
	g, f := int(m.gpu[s]), m.slot[s]
	more := m.w[e] / float64(m.count[e]+1)
	if f < 0 {
		return (m.load[g] + more) / m.u.speed[g]
	}
	l := (m.load[g] - m.size[f] + more) / m.u.speed[g]
	n := float64(m.count[f])
	for _, q := range m.at[f] {
		if q != int32(s) {
			l = max(l, (m.load[m.gpu[q]]+m.w[f]/(n*(n-1)))/m.u.speed[m.gpu[q]])
		}
	}
	return l
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
