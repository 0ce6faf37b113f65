package formats

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moelb/moelb/placement"
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
			return nil, errorf(placement.ErrShape, "layers", len(ids)-1, -1, "number %d: %d layers of %d slots are too many", ids[len(ids)-1], n, p.Slots())
		}
		rows = slices.Repeat(p.PhysicalToLogical[:1], n)
		for l, id := range ids {
			rows[id] = p.PhysicalToLogical[l]
		}
	}
	b := []byte(`{"physical_to_logical_map": [`)
	return append(appendRows(b, rows), "\n]}\n"...), nil
}

// passes collects the records of one file of SGLang's per_pass recorder.
type passes struct {
	rank    int64
	ids     []int64 // ascending
	windows map[int64]placement.Loads
	layout  placement.Placement
}

// decodeSGLang reads what SGLang's recorder saves: logical_count over steps
// (modes stat and stat_approx), or records of single passes (per_pass and
// per_token), of which one file holds what one rank saw.
func decodeSGLang(root *pickleDict, a *archive) (Stats, error) {
	if _, ok := root.get("records"); ok {
		one, err := decodePasses(root, a)
		if err != nil {
			return Stats{}, err
		}
		var j joined
		if err := j.add(one); err != nil {
			return Stats{}, err
		}
		s, err := j.stats(a.lim)
		s.Note = fmt.Sprintf("what rank %d recorded, alone: where other ranks recorded too, give the folder of all their files", one.rank)
		return s, err
	}
	x, ok := root.get("logical_count")
	if _, placed := root.get("physical_to_logical_map"); placed && !ok {
		return Stats{}, errorf(placement.ErrValue, "physical_to_logical_map", -1, -1, "this makes it a placement, not statistics")
	}
	if !ok {
		return Stats{}, errorf(placement.ErrShape, "pickle", -1, -1, "the dict has neither logical_count nor records, which SGLang writes")
	}
	t := table{lim: a.lim, field: "logical_count"}
	if err := a.windows(x, &t); err != nil {
		return Stats{}, err
	}
	return t.stats("sglang-pt")
}

// decodePasses adds up the records of each pass: overlapping batches write
// several. Physical counts become logical ones by the file's map.
func decodePasses(root *pickleDict, a *archive) (passes, error) {
	out := passes{windows: map[int64]placement.Loads{}}
	var err error
	if out.layout, err = decodeLayout(root, a); err != nil {
		return out, err
	}
	x, _ := root.get("records")
	records, ok := x.(*pickleList)
	if !ok || len(records.items) == 0 || records.plain > 0 {
		return out, errorf(placement.ErrShape, "records", -1, -1, "a list of dicts, at least one, is expected")
	}
	cells := 0
	for i, x := range records.items {
		record, ok := x.(*pickleDict)
		if !ok {
			return out, errorf(placement.ErrValue, "records", -1, i, "not a dict")
		}
		id, ok := record.integer("forward_pass_id")
		if !ok {
			return out, errorf(placement.ErrValue, "records", -1, i, "no whole number forward_pass_id")
		}
		rank, ok := record.integer("rank")
		if !ok || rank < 0 {
			return out, errorf(placement.ErrValue, "records", -1, i, "no rank")
		}
		if i > 0 && rank != out.rank {
			return out, errorf(placement.ErrValue, "records", -1, i, "rank %d in a file of rank %d", rank, out.rank)
		}
		out.rank = rank
		sum := out.windows[id]
		if sum == nil {
			if cells += len(out.layout.PhysicalToLogical) * out.layout.Experts; cells > a.lim.cells {
				return out, errorf(placement.ErrShape, "records", -1, i, "at most %d numbers in all passes together are supported", a.lim.cells)
			}
			sum = placement.NewLoads(len(out.layout.PhysicalToLogical), out.layout.Experts)
			out.windows[id] = sum
			out.ids = append(out.ids, id)
		}
		field := fmt.Sprintf("records, record %d: global_physical_count", i)
		x, _ := record.get("global_physical_count")
		counts, ok := x.(*tensor)
		if !ok || len(counts.shape) != 2 || counts.shape[0] != len(out.layout.PhysicalToLogical) || counts.shape[1] != out.layout.Slots() {
			return out, errorf(placement.ErrShape, field, -1, -1, "a tensor [%d, %d] is expected, as last_physical_to_logical_map is", len(out.layout.PhysicalToLogical), out.layout.Slots())
		}
		for l, row := range out.layout.PhysicalToLogical {
			values, err := a.row(counts, l)
			if err != nil {
				return out, fmt.Errorf("%s: %w", field, err)
			}
			for s, e := range row {
				if v := values[s]; !(v >= 0 && v <= most) {
					return out, errorf(placement.ErrValue, field, l, s, "%v is not a count", v)
				}
				sum[l][e] += values[s]
			}
		}
	}
	slices.Sort(out.ids)
	return out, nil
}

// decodeLayout reads last_physical_to_logical_map.
func decodeLayout(root *pickleDict, a *archive) (placement.Placement, error) {
	const field = "last_physical_to_logical_map"
	x, _ := root.get(field)
	return decodeMap(x, field, a)
}

// decodeMap reads a tensor [layers, slots] of expert ids, on one GPU.
func decodeMap(x any, field string, a *archive) (placement.Placement, error) {
	m, ok := x.(*tensor)
	if !ok || len(m.shape) != 2 {
		return placement.Placement{}, errorf(placement.ErrShape, field, -1, -1, "a tensor [layers, slots] is expected")
	}
	if m.shape[0] > a.lim.layers || m.shape[1] > a.lim.slots {
		return placement.Placement{}, errorf(placement.ErrShape, field, -1, -1, "%d layers of %d slots: at most %d of %d are supported", m.shape[0], m.shape[1], a.lim.layers, a.lim.slots)
	}
	p := placement.Placement{GPUs: 1}
	for l := range m.shape[0] {
		values, err := a.row(m, l)
		if err != nil {
			return p, fmt.Errorf("%s: %w", field, err)
		}
		row := make([]int, len(values))
		for s, v := range values {
			if row[s], err = whole(v, field, l, s); err != nil {
				return p, err
			}
			if row[s] < 0 || row[s] >= a.lim.experts {
				return p, errorf(placement.ErrValue, field, l, s, "expert %d: between 0 and %d are possible", row[s], a.lim.experts-1)
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
func decodeSGLangPlacement(root any, a *archive, gpus int) (placement.Placement, error) {
	const field = "physical_to_logical_map"
	if dict, ok := root.(*pickleDict); ok {
		x, ok := dict.get(field)
		if !ok {
			return placement.Placement{}, errorf(placement.ErrShape, "pickle", -1, -1, "the dict has no %s, which makes a placement", field)
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

// joined adds up the ranks' passes, one file after the other.
type joined struct {
	passes         // of the first rank, with the others added
	ranks  []int64 // whose files are in
	have   map[int64]int
}

func (j *joined) add(one passes) error {
	if len(j.ranks) == 0 {
		j.passes = one
		j.have = make(map[int64]int, len(one.ids))
	}
	for _, r := range j.ranks {
		if r == one.rank {
			return errorf(placement.ErrValue, "rank", -1, -1, "%d stands in another file of the folder too", one.rank)
		}
	}
	const field = "last_physical_to_logical_map"
	a, b := j.layout.PhysicalToLogical, one.layout.PhysicalToLogical
	if len(a) != len(b) {
		return errorf(placement.ErrShape, field, -1, -1, "%d layers, but rank %d has %d", len(b), j.rank, len(a))
	}
	for l := range a {
		if !slices.Equal(a[l], b[l]) {
			return errorf(placement.ErrValue, field, l, -1, "not what rank %d has", j.rank)
		}
	}
	for _, id := range one.ids {
		if len(j.ranks) > 0 {
			sum, ok := j.windows[id]
			if !ok {
				continue
			}
			if err := sum.AddWindow(one.windows[id]); err != nil {
				return err
			}
		}
		j.have[id]++
	}
	j.ranks = append(j.ranks, one.rank)
	return nil
}

// stats keeps the passes that every rank holds.
func (j *joined) stats(lim *limits) (Stats, error) {
	t := table{lim: lim, field: "records"}
	for _, id := range j.ids {
		if j.have[id] != len(j.ranks) {
			continue
		}
		for _, row := range j.windows[id] {
			if err := t.add(row); err != nil {
				return Stats{}, err
			}
		}
		if err := t.end(); err != nil {
			return Stats{}, err
		}
		delete(j.windows, id)
	}
	if len(t.windows) == 0 {
		return Stats{}, errorf(placement.ErrShape, "records", -1, -1, "no forward_pass_id is in the files of all %d ranks", len(j.ranks))
	}
	layout := j.layout
	layout.GPUs = 0
	if n := len(j.ranks); n > 1 && layout.Slots()%n == 0 {
		layout.GPUs = n
	}
	out, err := t.stats("sglang-pt")
	out.Placement = &layout
	return out, err
}

// readSGLangFolder reads one per_pass file a rank.
func readSGLangFolder(path string, names []string, lim *limits) (Stats, error) {
	var j joined
	for _, name := range names {
		err := func() error {
			f, err := os.Open(filepath.Join(path, name))
			if err != nil {
				return err
			}
			defer f.Close()
			a, root, err := openTorchFile(f, lim)
			if err == nil && a == nil {
				var b *bufio.Reader
				if b, err = open(f, lim.stream, lim); err == nil {
					a, root, err = openTorch(b, lim)
				}
			}
			if err != nil {
				return err
			}
			dict, ok := root.(*pickleDict)
			if ok {
				_, ok = dict.get("records")
			}
			if !ok {
				return errorf(placement.ErrShape, "records", -1, -1, "missing: a folder holds the per_pass files of several ranks; give any other file by itself")
			}
			one, err := decodePasses(dict, a)
			if err != nil {
				return err
			}
			return j.add(one)
		}()
		if err != nil {
			return Stats{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return j.stats(lim)
}
