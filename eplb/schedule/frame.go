package schedule

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// frame is two placements on the GPUs and slots of both: a slot that one of them
// lacks is empty there.
type frame struct {
	*placement.Topology
	Options
	empty         Schedule         // without rounds
	gpuOf         []int            // of each slot
	first, node   []int            // of each GPU: its first slot, its node
	start, end    [][]int          // what slots hold that can be read, and are to hold
	lost          []placement.Move // of what is in slots that cannot be read
	experts       int
	dead, leaving []bool
}

// newFrame checks what is to be scheduled.
func newFrame(prev, next *placement.Placement, t *placement.Topology, o Options) (*frame, error) {
	for _, check := range []func() error{prev.Validate, next.Validate, next.CheckComplete, t.Validate} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	layers, gpus := len(prev.PhysicalToLogical), max(prev.GPUs, next.GPUs)
	if err := cmp.Or(
		refuse.Shape(len(next.PhysicalToLogical) != layers || next.Experts != prev.Experts, "previous", "%d layers, %d experts, but the next placement has %d, %d",
			layers, prev.Experts, len(next.PhysicalToLogical), next.Experts),
		refuse.Shape(t.GPUs != gpus, "num_gpus", "the topology has %d, but the placements %d and %d: it describes the GPUs of both", t.GPUs, prev.GPUs, next.GPUs),
		o.validate(layers),
	); err != nil {
		return nil, err
	}
	f := &frame{
		Topology: t, Options: o, experts: prev.Experts, first: make([]int, gpus+1), node: make([]int, gpus), dead: make([]bool, gpus), leaving: make([]bool, gpus),
		empty: Schedule{GPUSlots: make([]int, gpus), Before: slotsOf(prev), After: slotsOf(next), ExpertBytes: o.ExpertBytes},
	}
	s := &f.empty
	for g := range gpus {
		s.GPUSlots[g] = max(at(s.Before, g), at(s.After, g))
		f.first[g+1], f.node[g] = f.first[g]+s.GPUSlots[g], t.Node(g)
		if out := t.SpeedOf(g) == 0; out && !slices.Contains(o.Leaving, g) {
			f.dead[g], s.Dead = true, append(s.Dead, g)
		} else if out || g >= next.GPUs {
			f.leaving[g], s.Leaving = true, append(s.Leaving, g)
		}
	}
	f.gpuOf = s.GPUOf()
	for i, g := range o.Leaving {
		if g < 0 || g >= gpus || !f.leaving[g] {
			return nil, refuse.At(placement.ErrValue, "leaving", -1, i, "GPU %d is none of %d that leaves service", g, gpus)
		}
	}
	if total := len(f.gpuOf); total > placement.MaxSlots || total*layers > placement.MaxCells {
		return nil, refuse.Errorf(placement.ErrValue, "previous", "%d layers of %d slots: at most %d slots a layer and %d in all are supported", layers, total, placement.MaxSlots, placement.MaxCells)
	}
	f.start, f.end = reshape(prev.PhysicalToLogical, s.Before, s.GPUSlots), reshape(next.PhysicalToLogical, s.After, s.GPUSlots)
	for l := range f.start {
		if err := f.setLayer(l, prev, next); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// setLayer demands a layer of as many experts before and after, and nothing at the end on
// GPUs that are out of service; and takes away what cannot be read.
func (f *frame) setLayer(l int, prev, next *placement.Placement) error {
	if before, after := prev.ExpertsOf(l), next.ExpertsOf(l); before != after {
		return refuse.Errorf(placement.ErrShape, "layer_experts", "%d in layer %d, but the next placement has %d", before, l, after)
	}
	for i, g := range f.gpuOf {
		if f.end[l][i] >= 0 && f.SpeedOf(g) == 0 {
			return refuse.At(placement.ErrFit, "physical_to_logical_map", l, next.FirstSlots()[g]+i-f.first[g], "the next placement has an expert on a GPU that is out of service")
		}
		if f.dead[g] && f.start[l][i] >= 0 {
			f.start[l][i] = -1
			f.lost = append(f.lost, placement.Move{Layer: l, Expert: -1, From: -1, To: i})
		}
	}
	return nil
}

// on is what a row says of a GPU's slots.
func (f *frame) on(g int, row []int) []int { return row[f.first[g]:f.first[g+1]] }

// slotsOf is the number of slots of each GPU.
func slotsOf(p *placement.Placement) []int {
	first := p.FirstSlots()
	n := make([]int, p.GPUs)
	for g := range n {
		n[g] = first[g+1] - first[g]
	}
	return n
}

// gpusOf is the GPU of each slot, where GPUs have so many.
func gpusOf(slots []int) []int {
	var out []int
	for g, n := range slots {
		for range n {
			out = append(out, g)
		}
	}
	return out
}

// at is the entry of a list, 0 beyond its end.
func at(list []int, i int) int {
	if i < len(list) {
		return list[i]
	}
	return 0
}

// reshape copies rows of GPUs with so many slots each onto GPUs with other
// numbers of slots: what is beyond is left out, what is new is empty.
func reshape(rows [][]int, from, to []int) [][]int {
	out := make([][]int, len(rows))
	for l, row := range rows {
		for g, n := range to {
			have := at(from, g)
			out[l] = append(out[l], row[:min(have, n)]...)
			for range n - have {
				out[l] = append(out[l], -1)
			}
			row = row[have:]
		}
	}
	return out
}
