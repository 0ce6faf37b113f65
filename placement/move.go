package placement

// Move is one replica's weights copied to a slot that did not hold them.
type Move struct {
	Layer  int `json:"layer"`
	Expert int `json:"expert"`
	From   int `json:"from"` // slot it is copied from
	To     int `json:"to"`   // slot it is copied to
}

// CountMoves counts, per layer, the slots of next whose expert was not on that
// GPU in p: the copies of weights that the change needs. Both must have the
// same layers, experts, GPUs and slots a GPU.
func (p *Placement) CountMoves(next *Placement) ([]int, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := next.Validate(); err != nil {
		return nil, err
	}
	a, b := p.FirstSlots(), next.FirstSlots()
	if len(p.PhysicalToLogical) != len(next.PhysicalToLogical) || p.Experts != next.Experts || p.GPUs != next.GPUs {
		return nil, errorf(ErrShape, "previous", -1, -1, "%d layers, %d experts, %d GPUs, but the next placement has %d, %d, %d",
			len(p.PhysicalToLogical), p.Experts, p.GPUs, len(next.PhysicalToLogical), next.Experts, next.GPUs)
	}
	out := make([]int, len(p.PhysicalToLogical))
	have := make([]int, p.Experts)
	for l, row := range next.PhysicalToLogical {
		old := p.PhysicalToLogical[l]
		for g := range p.GPUs {
			for _, e := range old[a[g]:a[g+1]] {
				if e >= 0 {
					have[e]++
				}
			}
			for _, e := range row[b[g]:b[g+1]] {
				if e < 0 {
					continue
				}
				if have[e] > 0 {
					have[e]--
				} else {
					out[l]++
				}
			}
			for _, e := range old[a[g]:a[g+1]] {
				if e >= 0 {
					have[e] = 0
				}
			}
		}
	}
	return out, nil
}
