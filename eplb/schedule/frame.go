package schedule

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// frame is two placements on the GPUs and slots of both: a slot that one of them
// lacks is empty there.
type frame struct {
	slots, before, after []int // of each GPU: the larger, prev's, next's
	prev, next           [][]int
	experts              int
	expertsOf            []int // of each layer
	dead, leaving        []bool
}

// newFrame checks what is to be scheduled.
func newFrame(prev, next *placement.Placement, t *placement.Topology, o *Options) (*frame, error) {
	for _, check := range []func() error{prev.Validate, next.Validate, next.CheckComplete, t.Validate} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	layers, gpus := len(prev.PhysicalToLogical), max(prev.GPUs, next.GPUs)
	switch {
	case len(next.PhysicalToLogical) != layers || next.Experts != prev.Experts:
		return nil, refuse.Errorf(placement.ErrShape, "previous", "%d layers, %d experts, but the next placement has %d, %d",
			layers, prev.Experts, len(next.PhysicalToLogical), next.Experts)
	case !sameExperts(prev, next):
		return nil, refuse.Errorf(placement.ErrShape, "layer_experts", "%v, but the next placement has %v", prev.LayerExperts, next.LayerExperts)
	case t.GPUs != gpus:
		return nil, refuse.Errorf(placement.ErrShape, "num_gpus", "the topology has %d, but the placements %d and %d: it describes the GPUs of both", t.GPUs, prev.GPUs, next.GPUs)
	}
	if err := o.validate(layers, gpus); err != nil {
		return nil, err
	}
	f := &frame{before: slotsOf(prev), after: slotsOf(next), experts: prev.Experts, slots: make([]int, gpus), dead: make([]bool, gpus), leaving: make([]bool, gpus)}
	f.markGPUs(t, o.Leaving)
	for l := range layers {
		f.expertsOf = append(f.expertsOf, prev.ExpertsOf(l))
	}
	for i, g := range o.Leaving {
		if !f.leaving[g] {
			return nil, &placement.Error{Field: "leaving", Layer: -1, Index: i, Kind: placement.ErrValue, Detail: "a GPU that stays in service"}
		}
	}
	if total := sum(f.slots); total > placement.MaxSlots || total*layers > placement.MaxCells {
		return nil, refuse.Errorf(placement.ErrValue, "previous", "%d layers of %d slots: at most %d slots a layer and %d in all are supported", layers, total, placement.MaxSlots, placement.MaxCells)
	}
	if err := emptyOutOfService(next, t); err != nil {
		return nil, err
	}
	f.prev, f.next = reshape(prev.PhysicalToLogical, f.before, f.slots), reshape(next.PhysicalToLogical, f.after, f.slots)
	return f, nil
}

// markGPUs says how many slots GPUs have, and which of them are dead or leave.
func (f *frame) markGPUs(t *placement.Topology, leaving []int) {
	for g := range f.slots {
		f.slots[g] = max(at(f.before, g), at(f.after, g))
		f.dead[g] = t.SpeedOf(g) == 0 && !slices.Contains(leaving, g)
		f.leaving[g] = !f.dead[g] && (g >= len(f.after) || t.SpeedOf(g) == 0)
	}
}

// emptyOutOfService demands that a placement has nothing on GPUs out of service.
func emptyOutOfService(p *placement.Placement, t *placement.Topology) error {
	first := p.FirstSlots()
	for l, row := range p.PhysicalToLogical {
		for g := range p.GPUs {
			for s := first[g]; s < first[g+1] && t.SpeedOf(g) == 0; s++ {
				if row[s] >= 0 {
					return &placement.Error{Field: "physical_to_logical_map", Layer: l, Index: s, Kind: placement.ErrFit,
						Detail: "the next placement has an expert on a GPU that is out of service"}
				}
			}
		}
	}
	return nil
}

// sameExperts says whether the layers of two placements have as many experts.
func sameExperts(a, b *placement.Placement) bool {
	for l := range a.PhysicalToLogical {
		if a.ExpertsOf(l) != b.ExpertsOf(l) {
			return false
		}
	}
	return true
}

func (f *frame) listDead() []int    { return indices(f.dead) }
func (f *frame) listLeaving() []int { return indices(f.leaving) }

func indices(set []bool) []int {
	var out []int
	for i, in := range set {
		if in {
			out = append(out, i)
		}
	}
	return out
}

// slotsOf is the number of slots of each GPU.
func slotsOf(p *placement.Placement) []int {
	first := p.FirstSlots()
	n := make([]int, p.GPUs)
	for g := range n {
		n[g] = first[g+1] - first[g]
	}
	return n
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
	total := sum(to)
	cells := make([]int, len(rows)*total)
	out := make([][]int, len(rows))
	for l, row := range rows {
		dst := cells[l*total : (l+1)*total : (l+1)*total]
		out[l] = dst
		src, d := 0, 0
		for g, n := range to {
			for i := range n {
				dst[d+i] = -1
				if i < at(from, g) {
					dst[d+i] = row[src+i]
				}
			}
			src, d = src+at(from, g), d+n
		}
	}
	return out
}
