package formats

import (
	"fmt"
	"io"

	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// vLLM itself reads and writes no file of placements or loads. What is here was
// proposed to it: maps to start from (pull requests 49572 and 53022: a list of
// slots a MoE layer, or one list for all of them) and a dump of the loads that a
// run saw (41141: safetensors, a tensor [layers, experts] a model).

// decodeLoadDump reads the tensors of a load dump, one a model: those of the
// model with the most layers are kept, since a draft model has few.
func decodeLoadDump(r io.Reader, tensors []stTensor, lim *guard.Limits) (Stats, error) {
	keep := 0
	for i, t := range tensors {
		if len(t.shape) != 2 || t.shape[0] < 1 || t.shape[1] < 1 || t.shape[0] > lim.Layers || t.shape[1] > lim.Experts {
			return Stats{}, guard.Errorf(placement.ErrShape, guard.Quote(t.name), -1, -1, "shape %s: [layers, experts] is expected, at most (%d, %d)", guard.Shape(t.shape), lim.Layers, lim.Experts)
		}
		if t.shape[0] > tensors[keep].shape[0] {
			keep = i
		}
	}
	at := 0.0
	t := table{lim: lim}
	var row []float64
	var raw []byte
	for i := range tensors {
		x := &tensors[i]
		var err error
		if at, err = x.follows(at, x.shape[0]*x.shape[1]); err != nil {
			return Stats{}, err
		}
		if i == keep {
			t.field = guard.Quote(x.name)
		}
		if n := x.shape[1]; n > len(row) {
			row, raw = make([]float64, n), make([]byte, 8*n)
		}
		for range x.shape[0] {
			if err := x.read(r, raw, row[:x.shape[1]]); err != nil {
				return Stats{}, err
			}
			if i != keep {
				continue
			}
			if err := t.add(row[:x.shape[1]]); err != nil {
				return Stats{}, err
			}
		}
	}
	if err := safetensorsEnd(r); err != nil {
		return Stats{}, err
	}
	if err := t.end(); err != nil {
		return Stats{}, err
	}
	s, err := t.stats("vllm-proposed")
	if n := len(tensors); n > 1 {
		s.Note = fmt.Sprintf("the loads of %d models: read are those of %s, which has the most layers", n, t.field)
	}
	return s, err
}

// decodePlacementArray reads nested JSON arrays: [layers][slots] as proposed to
// vLLM, or omni-infer's [device][layer][expert].
func decodePlacementArray(s *scanner, gpus int) (placement.Placement, error) {
	const field = "physical_to_logical_map"
	if err := s.open(field, -1); err != nil {
		return placement.Placement{}, err
	}
	if c := s.Peek(); wire.IsDigits(c) {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, field, -1, -1, "one list for all layers: a list a layer is expected")
	}
	if err := s.open(field, 0); err != nil {
		return placement.Placement{}, err
	}
	if s.Peek() == '[' {
		return decodeOmniArray(s)
	}
	rows, err := s.restRows(field, s.lim.Slots)
	if err == nil {
		err = s.finish()
	}
	if err != nil {
		return placement.Placement{}, err
	}
	p := placement.Placement{Experts: expertsOf(rows), GPUs: gpus, PhysicalToLogical: rows}
	if err := gpusOf(gpus, VLLMProposed); err != nil {
		return p, err
	}
	if p.Experts > p.Slots() {
		return p, guard.Errorf(placement.ErrValue, field, -1, -1, "the largest of a row of %d numbers is %d: these are statistics, not a placement", p.Slots(), p.Experts-1)
	}
	return p, complete(&p)
}

// restRows reads the rest of [rows][n], of which two brackets have been taken.
func (s *scanner) restRows(field string, max int) ([][]int, error) {
	rows, cells := [][]int{}, 0
	for {
		row, err := s.restIntegers(field, len(rows), max)
		rows = append(rows, row)
		cells += len(row) + 8
		if err := tooMany(s.lim, field, cells, err); err != nil {
			return nil, err
		}
		ok, err := s.more(false, ']')
		if err != nil || !ok {
			return rows, err
		}
		if len(rows) >= s.lim.Layers {
			return nil, guard.Errorf(placement.ErrShape, field, -1, -1, "more than %d entries, the most that is supported", s.lim.Layers)
		}
		if err := s.open(field, len(rows)); err != nil {
			return nil, err
		}
	}
}

// encodeVLLMProposed writes a list of slots a layer.
func encodeVLLMProposed(p *placement.Placement) ([]byte, error) {
	if err := even(p, VLLMProposed); err != nil {
		return nil, err
	}
	return append(appendRows([]byte{'['}, p.PhysicalToLogical), "\n]\n"...), nil
}
