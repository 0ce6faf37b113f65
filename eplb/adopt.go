package eplb

import (
	"math/bits"
	"slices"
)

// adopt takes a plan from scratch, its GPUs renamed so that as few experts as may
// be must move: GPUs alike may change places, within their node where groups
// stay together, and nodes alike too.
func (m *mover) adopt(f *fresh) []int32 {
	u, words := m.u, m.task.Words()
	n := len(u.gpu)
	slot := slices.Clone(f.slot)
	sets := make([]uint64, n*words)
	for q := range n {
		for _, e := range f.slot[u.first[q]:u.first[q+1]] {
			if e >= 0 {
				sets[q*words+int(e>>6)] |= 1 << (e & 63)
			}
		}
	}
	kept := func(old, q int) int32 {
		k := 0
		for i := range words {
			k += bits.OnesCount64(m.task.Had[old*words+i] & sets[q*words+i])
		}
		return int32(k)
	}
	alike := u.equal && n <= 512
	for q := range n {
		alike = alike && u.room(q) == u.room(0)
	}
	// Blocks of GPUs that change places as a whole, and within.
	block := n
	if m.task.Home != nil || m.task.Domain != nil {
		block = 0
		for block < n && u.node[block] == u.node[0] {
			block++
		}
		for q := range n {
			alike = alike && n%block == 0 && u.node[q] == u.node[q-q%block]
			alike = alike && (q == 0 || q%block != 0 || u.node[q] != u.node[q-1])
		}
	}
	if alike {
		blocks := n / block
		within := make([][]int, blocks*blocks)
		cost := make([]int32, blocks*blocks)
		inner := make([]int32, block*block)
		for a := range blocks {
			for b := range blocks {
				for i := range block {
					for j := range block {
						inner[i*block+j] = -kept(a*block+i, b*block+j)
					}
				}
				within[a*blocks+b] = assign(inner, block)
				for i, j := range within[a*blocks+b] {
					cost[a*blocks+b] += inner[i*block+j]
				}
			}
		}
		for a, b := range assign(cost, blocks) {
			for i, j := range within[a*blocks+b] {
				old, q := a*block+i, b*block+j
				copy(slot[u.first[old]:u.first[old+1]], f.slot[u.first[q]:u.first[q+1]])
			}
		}
	}
	return slot
}
