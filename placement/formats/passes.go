package formats

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/torch"
)

// recording is one file of SGLang's per_pass recorder, whose counts have not been
// read yet.
type recording struct {
	a      *torch.Archive
	rank   int64
	ids    []int64 // of the pass that each record belongs to: overlapping batches write several
	counts []*torch.Tensor
	layout placement.Placement
}

// openRecording checks the records of a file.
func openRecording(root *torch.Dict, a *torch.Archive) (*recording, error) {
	out := &recording{a: a}
	var err error
	if out.layout, err = decodeLayout(root, a); err != nil {
		return nil, err
	}
	x, _ := root.Get("records")
	records, ok := x.(*torch.List)
	if !ok || len(records.Items) == 0 || records.Plain > 0 {
		return nil, guard.Errorf(placement.ErrShape, "records", -1, -1, "a list of dicts, at least one, is expected")
	}
	for i, x := range records.Items {
		record, ok := x.(*torch.Dict)
		if !ok {
			return nil, guard.Errorf(placement.ErrValue, "records", -1, i, "not a dict")
		}
		id, ok := record.Integer("forward_pass_id")
		if !ok {
			return nil, guard.Errorf(placement.ErrValue, "records", -1, i, "no whole number forward_pass_id")
		}
		rank, ok := record.Integer("rank")
		if !ok || rank < 0 {
			return nil, guard.Errorf(placement.ErrValue, "records", -1, i, "no rank")
		}
		if i > 0 && rank != out.rank {
			return nil, guard.Errorf(placement.ErrValue, "records", -1, i, "rank %d in a file of rank %d", rank, out.rank)
		}
		out.rank = rank
		x, _ := record.Get("global_physical_count")
		counts, ok := x.(*torch.Tensor)
		if !ok || len(counts.Shape) != 2 || counts.Shape[0] != len(out.layout.PhysicalToLogical) || counts.Shape[1] != out.layout.Slots() {
			return nil, guard.Errorf(placement.ErrShape, countField(i), -1, -1, "a tensor [%d, %d] is expected, as last_physical_to_logical_map is", len(out.layout.PhysicalToLogical), out.layout.Slots())
		}
		out.ids, out.counts = append(out.ids, id), append(out.counts, counts)
	}
	return out, nil
}

func countField(record int) string {
	return fmt.Sprintf("records, record %d: global_physical_count", record)
}

// passes are the passes that were recorded, in order, each once.
func (r *recording) passes() []int64 {
	ids := slices.Clone(r.ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// passSum adds up the ranks' counts of each pass. Where the passes would hold
// more numbers than limits.kept, or are more than limits.windows, neighbours are
// added up: memory does not grow with the recording, nor with the ranks.
type passSum struct {
	ids     []int64 // of the passes
	steps   int     // passes that a window adds up
	windows []placement.Loads
}

func newPassSum(ids []int64, layout *placement.Placement, lim *guard.Limits, bytes int64) *passSum {
	n := len(layout.PhysicalToLogical) * max(layout.Experts, 16)
	kept := int(min(int64(lim.Kept), bytes)) // a view may be of more numbers than the file has
	s := &passSum{ids: ids, steps: 1}
	count := func() int { return (len(ids) + s.steps - 1) / s.steps }
	for count() > lim.Windows || count() > 1 && count()*n > kept {
		s.steps *= 2
	}
	s.windows = make([]placement.Loads, count())
	for i := range s.windows {
		s.windows[i] = placement.NewLoads(len(layout.PhysicalToLogical), layout.Experts)
	}
	return s
}

// add reads a rank's counts. Physical ones become logical by the file's map.
func (s *passSum) add(r *recording) error {
	for i, id := range r.ids {
		at, ok := slices.BinarySearch(s.ids, id)
		if !ok {
			continue
		}
		sum := s.windows[at/s.steps]
		for l, row := range r.layout.PhysicalToLogical {
			values, err := r.a.Row(r.counts[i], l)
			if err != nil {
				return fmt.Errorf("%s: %w", countField(i), err)
			}
			for slot, e := range row {
				v := values[slot]
				if !(v >= 0 && v <= most) {
					return guard.Errorf(placement.ErrValue, countField(i), l, slot, "%v is not a count", v)
				}
				if sum[l][e] += v; sum[l][e] > most {
					return guard.Errorf(placement.ErrValue, countField(i), l, slot, "the sum %v is too large", sum[l][e])
				}
			}
		}
	}
	return nil
}

// stats is the sum over the files of so many ranks.
func (s *passSum) stats(layout placement.Placement, ranks int) Stats {
	layout.GPUs = 0
	if ranks > 1 && layout.Slots()%ranks == 0 {
		layout.GPUs = ranks
	}
	return Stats{Windows: s.windows, Format: "sglang-pt", Steps: s.steps, Placement: &layout}
}

// decodePasses reads one rank's file by itself.
func decodePasses(root *torch.Dict, a *torch.Archive) (Stats, error) {
	r, err := openRecording(root, a)
	if err != nil {
		return Stats{}, err
	}
	sum := newPassSum(r.passes(), &r.layout, a.Lim, a.Bytes())
	if err := sum.add(r); err != nil {
		return Stats{}, err
	}
	s := sum.stats(r.layout, 1)
	s.Note = fmt.Sprintf("what rank %d recorded, alone: where other ranks recorded too, give the folder of all their files", r.rank)
	return s, nil
}

// readSGLangFolder reads one per_pass file a rank, one after the other and twice:
// first which passes all of them hold, then their counts.
func readSGLangFolder(path string, names []string, lim *guard.Limits) (Stats, error) {
	var ids []int64
	var layout placement.Placement
	var size int64
	ranks := map[int64]bool{}
	err := eachRecording(path, names, lim, func(r *recording) error {
		if len(ranks) == 0 {
			ids, layout, size = r.passes(), r.layout, r.a.Bytes()
		} else if err := sameLayout(&r.layout, &layout); err != nil {
			return err
		}
		if ranks[r.rank] {
			return guard.Errorf(placement.ErrValue, "rank", -1, -1, "%d stands in another file of the folder too", r.rank)
		}
		ranks[r.rank] = true
		own := r.passes()
		ids = slices.DeleteFunc(ids, func(id int64) bool { _, ok := slices.BinarySearch(own, id); return !ok })
		return nil
	})
	if err != nil {
		return Stats{}, err
	}
	if len(ids) == 0 {
		return Stats{}, guard.Errorf(placement.ErrShape, "records", -1, -1, "no forward_pass_id is in the files of all %d ranks", len(names))
	}
	sum := newPassSum(ids, &layout, lim, size)
	if err := eachRecording(path, names, lim, sum.add); err != nil {
		return Stats{}, err
	}
	return sum.stats(layout, len(names)), nil
}

// sameLayout demands that two ranks recorded on one placement.
func sameLayout(a, first *placement.Placement) error {
	const field = "last_physical_to_logical_map"
	if n, m := len(a.PhysicalToLogical), len(first.PhysicalToLogical); n != m {
		return guard.Errorf(placement.ErrShape, field, -1, -1, "%d layers, but another rank's has %d", n, m)
	}
	for l, row := range a.PhysicalToLogical {
		if !slices.Equal(row, first.PhysicalToLogical[l]) {
			return guard.Errorf(placement.ErrValue, field, l, -1, "not what another rank has")
		}
	}
	return nil
}

// eachRecording opens the files of a folder, one at a time.
func eachRecording(path string, names []string, lim *guard.Limits, each func(*recording) error) error {
	for _, name := range names {
		err := func() error {
			f, err := os.Open(filepath.Join(path, name))
			if err != nil {
				return err
			}
			defer f.Close()
			a, root, err := torch.OpenFile(f, lim)
			if err == nil && a == nil {
				var b *bufio.Reader
				if b, err = open(f, lim.Stream, lim); err == nil {
					a, root, err = torch.Open(b, lim)
				}
			}
			if err != nil {
				return err
			}
			dict, ok := root.(*torch.Dict)
			if ok {
				_, ok = dict.Get("records")
			}
			if !ok {
				return guard.Errorf(placement.ErrShape, "records", -1, -1, "missing: a folder holds the per_pass files of several ranks; give any other file by itself")
			}
			r, err := openRecording(dict, a)
			if err != nil {
				return err
			}
			return each(r)
		}()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
