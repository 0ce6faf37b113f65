package schedule

import (
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// No memory is taken in proportion to a number that somebody sent.
func TestMemoryIsBoundedByWhatExists(t *testing.T) {
	const layers = 512
	prev := placement.Placement{Experts: placement.MaxExperts, LayerExperts: slices.Repeat([]int{1}, layers), GPUs: 2, PhysicalToLogical: slices.Repeat([][]int{{0, -1}}, layers)}
	next := prev
	next.PhysicalToLogical = slices.Repeat([][]int{{-1, 0}}, layers)
	hostile := Schedule{Rounds: []Round{}, GPUSlots: []int{placement.MaxSlots - 1, 1}, Before: []int{1, 1}, After: []int{placement.MaxSlots - 1, 1}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := New(&prev, &next, placement.Topology{GPUs: 2}, Options{}); err != nil {
		t.Error(err)
	}
	var e *placement.Error
	if _, err := hostile.Apply(&prev, 0); !errors.As(err, &e) || e.Field != "schedule" {
		t.Errorf("%v", err)
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 {
		t.Errorf("%d MB for %d layers of two slots", n, layers)
	}
}

// A node of many GPUs that send as much as they like has a bound on 32 bits too.
func TestBoundOfManyCopiesAtOnce(t *testing.T) {
	const gpus = 1 << 15
	prev := placement.Placement{Experts: 1, GPUs: gpus, PhysicalToLogical: [][]int{slices.Repeat([]int{-1}, gpus)}}
	next := placement.Placement{Experts: 1, GPUs: gpus, PhysicalToLogical: [][]int{slices.Repeat([]int{-1}, gpus)}}
	prev.PhysicalToLogical[0][0], next.PhysicalToLogical[0][gpus-1] = 0, 0
	s, err := New(&prev, &next, placement.Topology{GPUs: gpus, Nodes: 2}, Options{PerGPU: placement.MaxSlots})
	if err != nil || s.RoundsBound != 1 || len(s.Rounds) != 1 {
		t.Errorf("%d rounds of %d, %v", len(s.Rounds), s.RoundsBound, err)
	}
}
