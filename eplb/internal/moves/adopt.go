package moves

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/assign"
)

// mostMatched GPUs or nodes are matched at most, which takes time as their cube.
const mostMatched = 512

// adopt gives a plan from scratch the names at which few experts must move: nodes alike
// change places, where groups or domains keep to them, and with gpus GPUs alike too, within
// their node.
func (m *Mover) adopt(gpus bool) []int32 {
	u, slot := m.U, slices.Clone(m.f.Slot)
	if !u.Alike() {
		return slot
	}
	node := []int{0} // where each begins, in GPUs, and the end
	if m.Task.Home != nil || m.Task.Domain != nil {
		for g := 1; g < len(u.Gpu); g++ {
			if u.Node[g] != u.Node[g-1] {
				node = append(node, g)
			}
		}
	}
	node = append(node, len(u.Gpu))
	if each := node[1]; len(u.Gpu) == each*(len(node)-1) && !slices.ContainsFunc(node, func(g int) bool { return g%each != 0 }) {
		m.rename(slot, 0, len(u.Gpu), each)
	}
	for a, g := range node[1:] {
		if gpus {
			m.rename(slot, node[a], g, 1)
		}
	}
	return slot
}

// rename lets blocks of so many GPUs, from one GPU to another, change places.
func (m *Mover) rename(slot []int32, from, to, each int) {
	first, n := m.U.First, (to-from)/each
	if n > mostMatched {
		return
	}
	block := func(a int) []int32 { return slot[first[from+a*each]:first[from+(a+1)*each]] }
	cost := make([]int32, n*n)
	was := make([][]int32, n)
	for b := range n {
		was[b] = slices.Clone(block(b))
		for a := range n {
			cost[a*n+b] = -m.S.Kept(from+a*each, from+(a+1)*each, was[b])
		}
	}
	for a, b := range assign.Least(cost, n) {
		copy(block(a), was[b])
	}
}
