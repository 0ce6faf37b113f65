package schedule

import (
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// TestNodesBoundRounds counts by hand what enters a node and leaves one, where no GPU has
// that much to do: of three nodes of two GPUs, each takes one copy a round over RDMA.
func TestNodesBoundRounds(t *testing.T) {
	unit := placement.Topology{GPUs: 6, Nodes: 3, NVLink: 100e9, RDMA: 10e9}
	o := Options{ExpertBytes: 1e9, PerGPU: 9, RDMAPerGPU: 1}
	layer := func(nodes ...[]int) *placement.Placement {
		var row []int
		for _, experts := range nodes {
			for range 2 {
				row = append(append(row, experts...), slices.Repeat([]int{-1}, 9-len(experts))...)
			}
		}
		return &placement.Placement{Experts: 12, GPUs: 6, PhysicalToLogical: [][]int{row}}
	}
	low, high := []int{0, 1, 2, 3, 4, 5}, []int{6, 7, 8, 9, 10, 11}
	for _, c := range []struct {
		name       string
		prev, next *placement.Placement
	}{
		{"enters", layer(low, high, append(low, 6, 7, 8)), layer(low, low, high)},
		{"leaves", layer(append(low, 6, 7, 8), high, high), layer(append(low, 6, 7, 8), []int{0, 1, 2, 9, 10, 11}, []int{3, 4, 5, 9, 10, 11})},
	} {
		s, err := New(c.prev, c.next, unit, o)
		if err != nil {
			t.Fatal(err)
		}
		// 6 copies over 2 GPUs' RDMA.
		if s.RoundsBound != 3 || s.SecondsBound != .3 {
			t.Errorf("%s: at least %d rounds, %v seconds", c.name, s.RoundsBound, s.SecondsBound)
		}
		if len(s.Rounds) < s.RoundsBound {
			t.Errorf("%s: %d rounds", c.name, len(s.Rounds))
		}
	}
}

// A GPU that alone holds what other nodes lack sends it over its own RDMA, however little
// each of them receives.
func TestBoundOfTheOnlyHolder(t *testing.T) {
	unit := placement.Topology{GPUs: 6, Nodes: 3, NVLink: 100e9, RDMA: 10e9}
	prev := placement.Placement{Experts: 3, GPUs: 6, PhysicalToLogical: [][]int{{0, 1, 2, -1, 2, -1, 2, -1, 2, -1, 2, -1}}}
	next := placement.Placement{Experts: 3, GPUs: 6, PhysicalToLogical: [][]int{{0, 1, 2, -1, 2, 0, 2, 1, 2, -1, 2, -1}}}
	s, err := New(&prev, &next, unit, Options{ExpertBytes: 1e9, PerGPU: 9, RDMAPerGPU: 1})
	if err != nil || s.RoundsBound != 2 || s.SecondsBound != .2 || len(s.Rounds) != 2 {
		t.Errorf("%d rounds, at least %d, %v seconds, %v", len(s.Rounds), s.RoundsBound, s.SecondsBound, err)
	}
}
