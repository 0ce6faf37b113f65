package placement

import "slices"

// Placement says which expert sits in which slot of every layer. Slots are
// numbered through the GPUs in order, so a layer's row lists GPU 0's experts
// first. It is a plain value: fill the fields, then Validate.
//
// It may be incomplete: slots may be empty, and an expert may have no replica,
// as after a GPU died. Such a placement is planned from, scored, written and read
// like any other; it cannot be served: see Missing and CheckComplete.
type Placement struct {
	Experts int // experts a layer
	// LayerExperts is the number of experts of each layer, [layers], where they differ,
	// as in pruned models: of Experts the first so many; nil = all have Experts.
	LayerExperts []int
	GPUs         int
	// GPUSlots is the number of slots of each GPU, [GPUs]; nil = slots are
	// shared evenly, slot s on GPU s / (slots/GPUs).
	GPUSlots []int
	// PhysicalToLogical is the expert in each slot, [layers][slots]; -1 = the
	// slot is empty. Engines call it physical_to_logical_map.
	PhysicalToLogical [][]int
	// ReplicaRank optionally numbers the replicas of each expert from 0 in the
	// order that LogicalToPhysical shall list them, [layers][slots]; nil = in
	// the order of their slots.
	ReplicaRank [][]int
}

// Slots is the number of slots a layer.
func (p *Placement) Slots() int {
	if len(p.PhysicalToLogical) == 0 {
		return 0
	}
	return len(p.PhysicalToLogical[0])
}

// FirstSlots returns the first slot of each GPU and, at the end, the number of
// slots: GPU g has the slots [first[g], first[g+1]).
func (p *Placement) FirstSlots() []int {
	first := make([]int, p.GPUs+1)
	for g := range p.GPUs {
		n := p.Slots() / p.GPUs
		if p.GPUSlots != nil {
			n = p.GPUSlots[g]
		}
		first[g+1] = first[g] + n
	}
	return first
}

// EvenSlots shares slots over GPUs so that counts differ by at most one, the
// first GPUs having the larger share.
func EvenSlots(slots, gpus int) []int {
	n := make([]int, gpus)
	for g := range n {
		n[g] = slots / gpus
		if g < slots%gpus {
			n[g]++
		}
	}
	return n
}

// Validate returns an *Error unless the shapes agree and every slot holds an
// expert or -1. An expert without a replica is an incomplete placement, see
// CheckComplete; one twice on a GPU is a waste, see Duplicates: neither is an
// error here.
func (p *Placement) Validate() error {
	const field = "physical_to_logical_map"
	slots := p.Slots()
	switch {
	case len(p.PhysicalToLogical) == 0:
		return errorf(ErrShape, field, -1, -1, "no layers")
	case len(p.PhysicalToLogical) > MaxLayers:
		return errorf(ErrShape, field, -1, -1, "%d layers: at most %d are supported", len(p.PhysicalToLogical), MaxLayers)
	case slots == 0:
		return errorf(ErrShape, field, 0, -1, "no slots")
	case slots > MaxSlots:
		return errorf(ErrShape, field, 0, -1, "%d slots: at most %d are supported", slots, MaxSlots)
	case int64(slots)*int64(len(p.PhysicalToLogical)) > MaxCells:
		return errorf(ErrShape, field, -1, -1, "%d layers of %d slots: at most %d slots in all are supported", len(p.PhysicalToLogical), slots, MaxCells)
	case p.Experts < 1 || p.Experts > MaxExperts:
		return errorf(ErrValue, "num_experts", -1, -1, "%d: between 1 and %d are supported", p.Experts, MaxExperts)
	case p.LayerExperts != nil && len(p.LayerExperts) != len(p.PhysicalToLogical):
		return errorf(ErrShape, "layer_experts", -1, -1, "%d entries, but the placement has %d layers", len(p.LayerExperts), len(p.PhysicalToLogical))
	case p.GPUs < 1 || p.GPUs > MaxGPUs:
		return errorf(ErrValue, "num_gpus", -1, -1, "%d: between 1 and %d are supported", p.GPUs, MaxGPUs)
	case p.GPUSlots == nil && slots%p.GPUs != 0:
		return errorf(ErrShape, "gpu_slots", -1, -1, "%d slots cannot be shared evenly by %d GPUs: give the slots of each", slots, p.GPUs)
	case p.GPUSlots != nil && len(p.GPUSlots) != p.GPUs:
		return errorf(ErrShape, "gpu_slots", -1, -1, "%d entries for %d GPUs", len(p.GPUSlots), p.GPUs)
	case p.ReplicaRank != nil && len(p.ReplicaRank) != len(p.PhysicalToLogical):
		return errorf(ErrShape, "replica_rank", -1, -1, "%d layers, but the placement has %d", len(p.ReplicaRank), len(p.PhysicalToLogical))
	}
	sum := 0
	for g, n := range p.GPUSlots {
		if n < 0 || n > slots {
			return errorf(ErrValue, "gpu_slots", -1, g, "%d: between 0 and %d are possible", n, slots)
		}
		sum += n
	}
	if p.GPUSlots != nil && sum != slots {
		return errorf(ErrShape, "gpu_slots", -1, -1, "they add up to %d slots, but a layer has %d", sum, slots)
	}
	for l, n := range p.LayerExperts {
		if n < 1 || n > p.Experts {
			return errorf(ErrValue, "layer_experts", l, -1, "%d: between 1 and %d are possible", n, p.Experts)
		}
	}
	count := make([]int, p.Experts)
	seen := make([]bool, slots)
	for l, row := range p.PhysicalToLogical {
		if len(row) != slots {
			return errorf(ErrShape, field, l, -1, "%d slots, but layer 0 has %d", len(row), slots)
		}
		clear(count)
		for s, e := range row {
			if e < -1 || e >= p.ExpertsOf(l) {
				return errorf(ErrValue, field, l, s, "expert %d: there are %d, and -1 for an empty slot", e, p.ExpertsOf(l))
			}
			if e >= 0 {
				count[e]++
			}
		}
		if p.ReplicaRank == nil {
			continue
		}
		if err := checkRanks(l, row, p.ReplicaRank[l], count, seen); err != nil {
			return err
		}
	}
	return nil
}

// ExpertsOf is the number of experts of a layer.
func (p *Placement) ExpertsOf(layer int) int {
	if p.LayerExperts == nil {
		return p.Experts
	}
	return p.LayerExperts[layer]
}

// Missing returns the experts of a layer that have no replica on a GPU in
// service, in order; nil = none. speed is Topology.Speed: nil = all are in
// service.
func (p *Placement) Missing(layer int, speed []float64) []int {
	has := make([]bool, p.Experts)
	first := p.FirstSlots()
	row := p.PhysicalToLogical[layer]
	for g := range p.GPUs {
		if speed != nil && speed[g] == 0 {
			continue
		}
		for _, e := range row[first[g]:first[g+1]] {
			if e >= 0 {
				has[e] = true
			}
		}
	}
	var out []int
	for e, ok := range has[:p.ExpertsOf(layer)] {
		if !ok {
			out = append(out, e)
		}
	}
	return out
}

// CheckComplete returns an *Error that names the first expert without a replica.
// What serves tokens, and what engines load, must be complete. p must be valid.
func (p *Placement) CheckComplete() error {
	has := make([]bool, p.Experts)
	for l, row := range p.PhysicalToLogical {
		clear(has)
		for _, e := range row {
			if e >= 0 {
				has[e] = true
			}
		}
		if e := slices.Index(has[:p.ExpertsOf(l)], false); e >= 0 {
			return errorf(ErrFit, "physical_to_logical_map", l, -1, "expert %d has no replica", e)
		}
	}
	return nil
}

// checkRanks demands that the replicas of each expert carry the ranks 0..count-1.
func checkRanks(layer int, row, rank, count []int, seen []bool) error {
	if len(rank) != len(row) {
		return errorf(ErrShape, "replica_rank", layer, -1, "%d slots, but the placement has %d", len(rank), len(row))
	}
	first := make([]int, len(count))
	for e := 1; e < len(count); e++ {
		first[e] = first[e-1] + count[e-1]
	}
	clear(seen)
	for s, e := range row {
		if e < 0 {
			continue
		}
		if r := rank[s]; r < 0 || r >= count[e] || seen[first[e]+r] {
			return errorf(ErrValue, "replica_rank", layer, s, "rank %d of expert %d: each of 0..%d once is needed", r, e, count[e]-1)
		}
		seen[first[e]+rank[s]] = true
	}
	return nil
}

// LogicalCount returns the number of replicas of each expert,
// [layers][experts]. Engines call it logical_count.
func (p *Placement) LogicalCount() [][]int {
	cells := make([]int, len(p.PhysicalToLogical)*p.Experts)
	out := make([][]int, len(p.PhysicalToLogical))
	for l, row := range p.PhysicalToLogical {
		out[l] = cells[l*p.Experts : (l+1)*p.Experts : (l+1)*p.Experts]
		for _, e := range row {
			if e >= 0 {
				out[l][e]++
			}
		}
	}
	return out
}

// MaxReplicas is the largest number of replicas any expert has in any layer:
// the width of LogicalToPhysical.
func (p *Placement) MaxReplicas() int {
	most := 0
	for _, c := range p.LogicalCount() {
		most = max(most, slices.Max(c))
	}
	return most
}

// LogicalToPhysical returns the slots of each expert's replicas,
// [layers][experts][MaxReplicas], padded with -1. Engines call it
// logical_to_physical_map. Where one expert has very many replicas the padding
// takes far more memory than the placement: see CheckWidth.
func (p *Placement) LogicalToPhysical() [][][]int {
	width := p.MaxReplicas()
	cells := make([]int, len(p.PhysicalToLogical)*p.Experts*width)
	for i := range cells {
		cells[i] = -1
	}
	rows := make([][]int, len(p.PhysicalToLogical)*p.Experts)
	for i := range rows {
		rows[i] = cells[i*width : (i+1)*width : (i+1)*width]
	}
	out := make([][][]int, len(p.PhysicalToLogical))
	next := make([]int, p.Experts)
	for l, row := range p.PhysicalToLogical {
		out[l] = rows[l*p.Experts : (l+1)*p.Experts : (l+1)*p.Experts]
		clear(next)
		for s, e := range row {
			if e < 0 {
				continue
			}
			rank := next[e]
			next[e]++
			if p.ReplicaRank != nil {
				rank = p.ReplicaRank[l][s]
			}
			out[l][e][rank] = s
		}
	}
	return out
}

// CheckWidth is an *Error where LogicalToPhysical would hold more than 4 times
// MaxCells numbers, most of them padding. p must be valid.
func (p *Placement) CheckWidth() error {
	layers, width := len(p.PhysicalToLogical), p.MaxReplicas()
	if float64(layers)*float64(p.Experts)*float64(width) > 4*MaxCells {
		return errorf(ErrShape, "logical_to_physical_map", -1, -1, "%d layers of %d experts, padded to the %d replicas that one of them has: at most %d numbers are supported", layers, p.Experts, width, 4*MaxCells)
	}
	return nil
}

// Duplicates counts the slots that hold an expert which an earlier slot of the
// same GPU and layer holds too: copies that cannot take load off another GPU.
func (p *Placement) Duplicates() int {
	first := p.FirstSlots()
	n := 0
	last := make([]int, p.Experts) // 1 + the last (layer, GPU) seen to hold it
	for l, row := range p.PhysicalToLogical {
		for g := range p.GPUs {
			mark := 1 + l*p.GPUs + g
			for _, e := range row[first[g]:first[g+1]] {
				if e < 0 {
					continue
				}
				if last[e] == mark {
					n++
				}
				last[e] = mark
			}
		}
	}
	return n
}

// Clone returns a copy that shares no memory with p.
func (p *Placement) Clone() Placement {
	q := *p
	q.GPUSlots, q.LayerExperts = slices.Clone(p.GPUSlots), slices.Clone(p.LayerExperts)
	q.PhysicalToLogical = cloneRows(p.PhysicalToLogical)
	q.ReplicaRank = cloneRows(p.ReplicaRank)
	return q
}

func cloneRows(rows [][]int) [][]int {
	if rows == nil {
		return nil
	}
	out := make([][]int, len(rows))
	for i, r := range rows {
		out[i] = slices.Clone(r)
	}
	return out
}

// Trivial is the placement engines start with (SGLang's name for it): expert s
// modulo experts in slot s, over evenly shared slots. It wants slots ≥ experts.
func Trivial(layers, experts, slots, gpus int) Placement {
	p := Placement{Experts: experts, GPUs: gpus, PhysicalToLogical: make([][]int, layers)}
	if slots%gpus != 0 {
		p.GPUSlots = EvenSlots(slots, gpus)
	}
	for l := range p.PhysicalToLogical {
		row := make([]int, slots)
		for s := range row {
			row[s] = s % experts
		}
		p.PhysicalToLogical[l] = row
	}
	return p
}
