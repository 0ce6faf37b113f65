package moves

import (
	"math/bits"
	"slices"

	"github.com/moelb/moelb/eplb/internal/assign"
	"github.com/moelb/moelb/eplb/internal/fresh"
)

// adopt takes a plan from scratch, its GPUs renamed so that as few experts as may
// be must move: GPUs alike may change places, within their node where groups
// stay together, and nodes alike too.
func (m *Mover) adopt(f *fresh.Planner) []int32 {
	u, words := m.U, m.Task.Words()
	n := len(u.Gpu)
	slot := slices.Clone(f.Slot)
	sets := make([]uint64, n*words)
	for q := range n {
		for _, e := range f.Slot[u.First[q]:u.First[q+1]] {
			if e >= 0 {
				sets[q*words+int(e>>6)] |= 1 << (e & 63)
			}
		}
	}
	kept := func(old, q int) int32 {
		k := 0
		for i := range words {
			k += bits.OnesCount64(m.Task.Had[old*words+i] & sets[q*words+i])
		}
		return int32(k)
	}
	alike := u.Equal && n <= 512
	for q := range n {
		alike = alike && u.Room(q) == u.Room(0)
	}
	// Blocks of GPUs that change places as a whole, and within.
	block := n
	if m.Task.Home != nil || m.Task.Domain != nil {
		block = 0
		for block < n && u.Node[block] == u.Node[0] {
			block++
		}
		for q := range n {
			alike = alike && n%block == 0 && u.Node[q] == u.Node[q-q%block]
			alike = alike && (q == 0 || q%block != 0 || u.Node[q] != u.Node[q-1])
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
				within[a*blocks+b] = assign.Least(inner, block)
				for i, j := range within[a*blocks+b] {
					cost[a*blocks+b] += inner[i*block+j]
				}
			}
		}
		for a, b := range assign.Least(cost, blocks) {
			for i, j := range within[a*blocks+b] {
				old, q := a*block+i, b*block+j
				copy(slot[u.First[old]:u.First[old+1]], f.Slot[u.First[q]:u.First[q+1]])
			}
		}
	}
	return slot
}
