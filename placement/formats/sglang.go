package formats

import (
	"fmt"
	"slices"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/torch"
)

// sglang reads a file of --init-expert-location. -1 marks an empty slot,
// which SGLang itself does not know.
func (f *moelbFields) sglang(gpus int) (placement.Placement, error) {
	p := placement.Placement{Experts: expertsOf(f.maps), GPUs: gpus, PhysicalToLogical: f.maps}
	if err := gpusOf(gpus, SGLang); err != nil {
		return p, err
	}
	return p, complete(&p)
}

// encodeSGLang writes the one key that SGLang takes: with another beside it,
// SGLang fails. Ranks that hold nothing get expert 0 in every slot. SGLang counts
// the dense layers too: those that o.Layers leaves out get the rows of the first
// layer, which nothing reads.
func encodeSGLang(p *placement.Placement, ids []int, o *EncodeOptions) ([]byte, error) {
	q := p.Clone()
	first := q.FirstSlots()
	for g, out := range idle(p) {
		for _, row := range q.PhysicalToLogical {
			if out {
				clear(row[first[g]:first[g+1]])
			}
		}
	}
	p = &q
	if err := even(p, SGLang); err != nil {
		return nil, err
	}
	rows := p.PhysicalToLogical
	if o.Layers != nil {
		n := max(ids[len(ids)-1]+1, o.Rows)
		if int64(n)*int64(p.Slots()) > placement.MaxCells {
			return nil, guard.Errorf(placement.ErrShape, "layers", len(ids)-1, -1, "number %d: %d layers of %d slots are too many", ids[len(ids)-1], n, p.Slots())
		}
		rows = slices.Repeat(p.PhysicalToLogical[:1], n)
		for l, id := range ids {
			rows[id] = p.PhysicalToLogical[l]
		}
	}
	b := []byte(`{"physical_to_logical_map": [`)
	return append(appendRows(b, rows), "\n]}\n"...), nil
}

// decodeSGLang reads what SGLang's recorder saves: logical_count over steps
// (modes stat and stat_approx), or records of single passes (per_pass and
// per_token), of which one file holds what one rank saw.
func decodeSGLang(root *torch.Dict, a *torch.Archive) (Stats, error) {
	if _, ok := root.Get("records"); ok {
		return decodePasses(root, a)
	}
	x, ok := root.Get("logical_count")
	if _, placed := root.Get("physical_to_logical_map"); placed && !ok {
		return Stats{}, guard.Errorf(placement.ErrValue, "physical_to_logical_map", -1, -1, "this makes it a placement, not statistics")
	}
	if !ok {
		return Stats{}, guard.Errorf(placement.ErrShape, "pickle", -1, -1, "the dict has neither logical_count nor records, which SGLang writes")
	}
	t := table{lim: a.Lim, field: "logical_count"}
	if err := readWindows(a, x, &t); err != nil {
		return Stats{}, err
	}
	return t.stats("sglang-pt")
}

// decodeLayout reads last_physical_to_logical_map.
func decodeLayout(root *torch.Dict, a *torch.Archive) (placement.Placement, error) {
	const field = "last_physical_to_logical_map"
	x, _ := root.Get(field)
	return decodeMap(x, field, a)
}

// decodeMap reads a tensor [layers, slots] of expert ids, on one GPU.
func decodeMap(x any, field string, a *torch.Archive) (placement.Placement, error) {
	m, ok := x.(*torch.Tensor)
	if !ok || len(m.Shape) != 2 {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, field, -1, -1, "a tensor [layers, slots] is expected")
	}
	if m.Shape[0] > a.Lim.Layers || m.Shape[1] > a.Lim.Slots {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, field, -1, -1, "%d layers of %d slots: at most %d of %d are supported", m.Shape[0], m.Shape[1], a.Lim.Layers, a.Lim.Slots)
	}
	if n := int64(m.Shape[0]) * int64(m.Shape[1]); n > int64(m.Held()) {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, field, -1, -1, "a view of %d numbers on %d: save it as it stands in memory, tensor.contiguous()", n, m.Held())
	}
	p := placement.Placement{GPUs: 1}
	for l := range m.Shape[0] {
		values, err := a.Row(m, l)
		if err != nil {
			return p, fmt.Errorf("%s: %w", field, err)
		}
		row := make([]int, len(values))
		for s, v := range values {
			if row[s], err = whole(v, field, l, s); err != nil {
				return p, err
			}
			if row[s] < 0 || row[s] >= a.Lim.Experts {
				return p, guard.Errorf(placement.ErrValue, field, l, s, "expert %d: between 0 and %d are possible", row[s], a.Lim.Experts-1)
			}
		}
		p.PhysicalToLogical = append(p.PhysicalToLogical, row)
	}
	p.Experts = expertsOf(p.PhysicalToLogical)
	if err := complete(&p); err != nil {
		return p, renamedMap(err, field)
	}
	return p, nil
}

// decodeSGLangPlacement reads an --init-expert-location in a .pt: the map, or a
// dict that holds it.
func decodeSGLangPlacement(root any, a *torch.Archive, gpus int) (placement.Placement, error) {
	const field = "physical_to_logical_map"
	if dict, ok := root.(*torch.Dict); ok {
		x, ok := dict.Get(field)
		if !ok {
			return placement.Placement{}, guard.Errorf(placement.ErrShape, "pickle", -1, -1, "the dict has no %s, which makes a placement", field)
		}
		root = x
	}
	if err := gpusOf(gpus, SGLang); err != nil {
		return placement.Placement{}, err
	}
	p, err := decodeMap(root, field, a)
	p.GPUs = gpus
	return p, err
}
