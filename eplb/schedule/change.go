package schedule

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// newScheduler checks what is to be scheduled.
func newScheduler(prev, next *placement.Placement, t *placement.Topology, o Options) (*scheduler, error) {
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
	s := &scheduler{
		Topology: t, Options: o, node: make([]int, gpus),
		made:  Schedule{Before: slotsOf(prev), After: slotsOf(next), ExpertBytes: o.ExpertBytes},
		limit: [kinds]int{nvlink: noLimit, rdma: o.RDMAPerGPU, outside: noLimit, all: o.PerGPU, peers: o.PeersPerGPU, staged: noLimit},
	}
	if o.StagedBytes > 0 {
		s.limit[staged] = int(min(o.StagedBytes/o.ExpertBytes, noLimit))
	}
	made := &s.made
	for g := range gpus {
		made.GPUSlots = append(made.GPUSlots, max(at(made.Before, g), at(made.After, g)))
		s.node[g] = t.Node(g)
		if out := t.SpeedOf(g) == 0; out && !slices.Contains(o.Leaving, g) {
			made.Dead = append(made.Dead, g)
		} else if out || g >= next.GPUs {
			made.Leaving = append(made.Leaving, g)
		}
	}
	if i := slices.IndexFunc(o.Leaving, func(g int) bool { return !slices.Contains(made.Leaving, g) }); i >= 0 {
		return nil, refuse.At(placement.ErrValue, "leaving", -1, i, "GPU %d is none of %d that leaves service", o.Leaving[i], gpus)
	}
	both := placement.Placement{GPUs: gpus, GPUSlots: made.GPUSlots}
	s.gpuOf, s.first = made.GPUOf(), both.FirstSlots()
	if total := len(s.gpuOf); total > placement.MaxSlots || total*layers > placement.MaxCells {
		return nil, refuse.Errorf(placement.ErrValue, "previous", "%d layers of %d slots: at most %d slots a layer and %d in all are supported", layers, total, placement.MaxSlots, placement.MaxCells)
	}
	s.start, s.end = onto(prev, made.GPUSlots).PhysicalToLogical, onto(next, made.GPUSlots).PhysicalToLogical
	for l, row := range s.start {
		if before, after := prev.ExpertsOf(l), next.ExpertsOf(l); before != after {
			return nil, refuse.Errorf(placement.ErrShape, "layer_experts", "%d in layer %d, but the next placement has %d", before, l, after)
		}
		for i, g := range s.gpuOf {
			if s.end[l][i] >= 0 && t.SpeedOf(g) == 0 {
				return nil, refuse.At(placement.ErrFit, "physical_to_logical_map", l, -1, "the next placement has an expert on GPU %d, which is out of service", g)
			}
			if row[i] >= 0 && slices.Contains(made.Dead, g) {
				row[i] = -1
				s.lost = append(s.lost, placement.Move{Layer: l, Expert: -1, From: -1, To: i})
			}
		}
	}
	return s, nil
}

// on is what a row says of a GPU's slots.
func (s *scheduler) on(g int, row []int) []int { return row[s.first[g]:s.first[g+1]] }

// slotsOf is the number of slots of each GPU.
func slotsOf(p *placement.Placement) []int {
	if p.GPUSlots != nil {
		return slices.Clone(p.GPUSlots)
	}
	return slices.Repeat([]int{p.Slots() / p.GPUs}, p.GPUs)
}

// GPUOf returns the GPU of each slot, numbered over GPUSlots.
func (s *Schedule) GPUOf() []int {
	var out []int
	for g, n := range s.GPUSlots {
		out = append(out, slices.Repeat([]int{g}, n)...)
	}
	return out
}

// onto is a placement on GPUs with other numbers of slots: what is beyond is left out,
// what is new is empty. It shares no memory with p.
func onto(p *placement.Placement, slots []int) placement.Placement {
	q := placement.Placement{Experts: p.Experts, LayerExperts: slices.Clone(p.LayerExperts), GPUs: len(slots)}
	if slices.ContainsFunc(slots, func(n int) bool { return n != slots[0] }) {
		q.GPUSlots = slices.Clone(slots)
	}
	first := p.FirstSlots()
	for _, row := range p.PhysicalToLogical {
		var to []int
		for g, n := range slots {
			var has []int
			if g < p.GPUs {
				has = row[first[g]:first[g+1]]
			}
			has = has[:min(len(has), n)]
			to = append(append(to, has...), slices.Repeat([]int{-1}, n-len(has))...)
		}
		q.PhysicalToLogical = append(q.PhysicalToLogical, to)
	}
	return q
}

// at is the entry of a list, 0 beyond its ends.
func at(list []int, i int) int {
	if i >= 0 && i < len(list) {
		return list[i]
	}
	return 0
}
