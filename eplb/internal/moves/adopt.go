package moves

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/assign"
	"github.com/moelb/moelb/eplb/internal/fresh"
)

// adopt takes a plan from scratch, its GPUs renamed so that as few experts as may
// be must move: GPUs alike may change places, within their node where groups
// stay together, and nodes alike too.
func (m *Mover) adopt(f *fresh.Planner) []int32 {
	slot := slices.Clone(f.Slot)
	block := m.alike()
	if block == 0 {
		return slot
	}
	u, blocks := m.U, len(m.U.Gpu)/block
	match := assign.Least
	if len(u.Gpu) > mostMatched {
		match = assign.Greedy
	}
	within := make([][]int, blocks*blocks)
	cost := make([]int32, blocks*blocks)
	inner := make([]int32, block*block)
	for a := range blocks {
		for b := range blocks {
			for k := range inner {
				q := b*block + k%block
				inner[k] = -m.S.Kept(a*block+k/block, f.Slot[u.First[q]:u.First[q+1]])
			}
			within[a*blocks+b] = match(inner, block)
			for i, j := range within[a*blocks+b] {
				cost[a*blocks+b] += inner[i*block+j]
			}
		}
	}
	for a, b := range match(cost, blocks) {
		for i, j := range within[a*blocks+b] {
			old, q := a*block+i, b*block+j
			copy(slot[u.First[old]:u.First[old+1]], f.Slot[u.First[q]:u.First[q+1]])
		}
	}
	return slot
}

const (
	// mostMatched GPUs are matched at the least number of moves. Of more, matched
	// greedily, mostly half stays in plans of two slots a GPU, where else all would
	// move, and annealing starts from there.
	mostMatched = 512
	mostRenamed = 2048
)

// alike is how many GPUs in a row may change places with each other, and as a whole
// with the next as many: a node's where groups or domains keep to nodes, else all;
// 0 where GPUs or nodes differ, or are too many.
func (m *Mover) alike() (block int) {
	u := m.U
	n := len(u.Gpu)
	alike := u.Alike() && n <= mostRenamed
	block = n
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
	if !alike {
		return 0
	}
	return block
}
