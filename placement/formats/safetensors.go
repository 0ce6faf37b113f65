package formats

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

// iterations is what TensorRT-LLM's ranks have counted: counts[iteration and
// layer][expert], added up over the ranks.
type iterations struct {
	experts int // 0 = not known yet
	counts  map[step][]float64
	have    map[step]int // ranks that hold it
	ranks   int
	cells   int
	lim     *guard.Limits
}

type step struct{ iteration, layer int }

func newIterations(lim *guard.Limits) *iterations {
	return &iterations{counts: map[step][]float64{}, have: map[step]int{}, lim: lim}
}

// stTensor is one entry of a safetensors header.
type stTensor struct {
	name     string
	dtype    string
	of       matrix.Type
	shape    []int
	from, to float64 // bytes after the header
	step     step
	given    int // of the three keys
}

// openSafetensors reads the header: the tensors in the order of their data,
// which follows in one piece.
func openSafetensors(r io.Reader, lim *guard.Limits) ([]stTensor, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("safetensors: the header: %w", err)
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > uint64(lim.Header) {
		return nil, guard.Errorf(placement.ErrShape, "safetensors", -1, -1, "a header of %d bytes: at most %d are supported", n, lim.Header)
	}
	header := &io.LimitedReader{R: r, N: int64(n)}
	tensors, err := readSafetensorsHeader(newScanner(header, lim))
	if err != nil {
		return nil, fmt.Errorf("safetensors header: %w", err)
	}
	if header.N > 0 {
		return nil, guard.Errorf(placement.ErrShape, "safetensors", -1, -1, "the header ends too early")
	}
	if len(tensors) == 0 {
		return nil, guard.Errorf(placement.ErrShape, "safetensors", -1, -1, "no tensors")
	}
	slices.SortFunc(tensors, func(a, b stTensor) int {
		if a.from != b.from {
			return int(min(max(a.from-b.from, -1), 1))
		}
		return strings.Compare(a.name, b.name)
	})
	for i := range tensors {
		t := &tensors[i]
		if t.given != 3 {
			return nil, guard.Errorf(placement.ErrShape, guard.Quote(t.name), -1, -1, "dtype, shape and data_offsets are expected")
		}
		var ok bool
		if t.of, ok = matrix.Safetensors(t.dtype); !ok {
			return nil, guard.Errorf(placement.ErrValue, guard.Quote(t.name), -1, -1, "dtype %s: I64, I32, F64 and F32 are known", guard.Quote(t.dtype))
		}
	}
	return tensors, nil
}

// follows demands that a tensor of so many numbers lies after those before it,
// which end at a byte; it returns its own end.
func (t *stTensor) follows(at float64, numbers int) (float64, error) {
	end := at + float64(t.of.Size)*float64(numbers)
	if t.from != at || t.to != end {
		return 0, guard.Errorf(placement.ErrShape, guard.Quote(t.name), -1, -1, "data_offsets [%v, %v]: [%v, %v] is expected", t.from, t.to, at, end)
	}
	return end, nil
}

// read reads a row of numbers.
func (t *stTensor) read(r io.Reader, raw []byte, row []float64) error {
	raw = raw[:len(row)*t.of.Size]
	if _, err := io.ReadFull(r, raw); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%s: the data: %w", guard.Quote(t.name), err)
	}
	t.of.Read(row, raw, t.of.Size)
	return nil
}

// safetensorsEnd demands that nothing follows the last tensor.
func safetensorsEnd(r io.Reader) error {
	var one [1]byte
	if _, err := io.ReadFull(r, one[:]); err != io.EOF {
		if err != nil {
			return err
		}
		return guard.Errorf(placement.ErrShape, "safetensors", -1, -1, "bytes after the last tensor")
	}
	return nil
}

// add reads one rank's file: tensors named <iteration>_<layer>, [experts] integers
// or floats. The data is read as a stream.
func (it *iterations) add(r io.Reader, tensors []stTensor) error {
	at := 0.0
	var raw []byte
	var row []float64
	for i := range tensors {
		t := &tensors[i]
		err := it.place(t)
		if err != nil {
			return err
		}
		if at, err = t.follows(at, it.experts); err != nil {
			return err
		}
		if row == nil {
			row, raw = make([]float64, it.experts), make([]byte, 8*it.experts)
		}
		if err := t.read(r, raw, row); err != nil {
			return err
		}
		if err := it.count(t, row); err != nil {
			return err
		}
	}
	if err := safetensorsEnd(r); err != nil {
		return err
	}
	it.ranks++
	return nil
}

// place checks a tensor's shape and parses its name.
func (it *iterations) place(t *stTensor) error {
	if len(t.shape) != 1 || t.shape[0] < 1 || t.shape[0] > it.lim.Experts {
		return guard.Errorf(placement.ErrShape, guard.Quote(t.name), -1, -1, "shape %s: [num_experts] is expected, at most %d", guard.Shape(t.shape), it.lim.Experts)
	}
	if it.experts == 0 {
		it.experts = t.shape[0]
	}
	if t.shape[0] != it.experts {
		return guard.Errorf(placement.ErrShape, guard.Quote(t.name), -1, -1, "%d experts, but %d are expected", t.shape[0], it.experts)
	}
	iteration, layer, ok := strings.Cut(t.name, "_")
	a, err1 := strconv.ParseUint(iteration, 10, 31)
	b, err2 := strconv.ParseUint(layer, 10, 31)
	if !ok || err1 != nil || err2 != nil {
		return guard.Errorf(placement.ErrValue, guard.Quote(t.name), -1, -1, "a name <iteration>_<layer> is expected")
	}
	t.step = step{int(a), int(b)}
	return nil
}

func (it *iterations) count(t *stTensor, row []float64) error {
	sum := it.counts[t.step]
	if it.have[t.step] > it.ranks {
		return guard.Errorf(placement.ErrValue, guard.Quote(t.name), -1, -1, "the tensor stands twice in one file")
	}
	if sum == nil {
		if it.ranks > 0 {
			return guard.Errorf(placement.ErrShape, guard.Quote(t.name), -1, -1, "another rank does not hold it")
		}
		if it.cells += max(it.experts, 16); it.cells > it.lim.Cells {
			return guard.Errorf(placement.ErrShape, guard.Quote(t.name), -1, -1, "at most %d numbers in all tensors together are supported", it.lim.Cells)
		}
		sum = make([]float64, it.experts)
		it.counts[t.step] = sum
	}
	it.have[t.step]++
	for e, v := range row {
		if !(v >= 0 && v <= most) {
			return guard.Errorf(placement.ErrValue, guard.Quote(t.name), -1, e, "%v is not a count", v)
		}
		sum[e] += v
	}
	return nil
}

// stats makes a window of every iteration, in order; all of them must hold the
// same layers, on every rank.
func (it *iterations) stats() (Stats, error) {
	steps := make([]step, 0, len(it.counts))
	for s := range it.counts {
		steps = append(steps, s)
	}
	slices.SortFunc(steps, func(a, b step) int {
		if a.iteration != b.iteration {
			return a.iteration - b.iteration
		}
		return a.layer - b.layer
	})
	t := table{lim: it.lim, field: "counts"}
	var layers []int // of the first iteration
	for i, s := range steps {
		name := fmt.Sprintf("%d_%d", s.iteration, s.layer)
		if it.have[s] != it.ranks {
			return Stats{}, guard.Errorf(placement.ErrShape, name, -1, -1, "only %d of %d ranks hold it", it.have[s], it.ranks)
		}
		if len(t.windows) == 0 {
			layers = append(layers, s.layer)
		} else if k := len(t.rows); k < len(layers) && layers[k] != s.layer {
			return Stats{}, guard.Errorf(placement.ErrShape, name, -1, -1, "where layer %d of iteration %d is expected", layers[k], s.iteration)
		}
		if err := t.add(it.counts[s]); err != nil {
			return Stats{}, err
		}
		delete(it.counts, s)
		if i+1 == len(steps) || steps[i+1].iteration != s.iteration {
			if err := t.end(); err != nil {
				return Stats{}, fmt.Errorf("iteration %d: %w", s.iteration, err)
			}
		}
	}
	t.layers = layers
	return t.stats("tensorrt-llm")
}

// readSafetensorsHeader reads {"name": {"dtype", "shape", "data_offsets"}, ...}.
func readSafetensorsHeader(s *scanner) ([]stTensor, error) {
	var tensors []stTensor
	seen := map[string]bool{}
	if err := s.take('{'); err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		ok, err := s.more(first, '}')
		if err != nil {
			return nil, err
		}
		if !ok {
			return tensors, s.finish()
		}
		name, err := s.str()
		if err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, s.errorf("the key %s stands twice", guard.Quote(name))
		}
		seen[name] = true
		if err := s.take(':'); err != nil {
			return nil, err
		}
		if name == "__metadata__" {
			if err := s.skip(0); err != nil {
				return nil, err
			}
			continue
		}
		t := stTensor{name: name}
		err = s.object(func(key string) (err error) {
			t.given++
			switch key {
			case "dtype":
				t.dtype, err = s.str()
			case "shape":
				t.shape, err = s.integers(key, -1, matrix.MaxDims)
			case "data_offsets":
				if err := s.open(key, -1); err != nil {
					return err
				}
				pair, err := s.numbers(key, -1, 2)
				if err == nil && len(pair) != 2 {
					err = s.errorf("%s: two numbers are expected", key)
				}
				if err == nil {
					t.from, t.to = pair[0], pair[1]
				}
				return err
			default:
				err = s.errorf("%s is not a field of a tensor", guard.Quote(key))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, t)
	}
}

// decodeSafetensorsStats reads one rank's file of TensorRT-LLM by itself, or the
// loads that vLLM is proposed to save.
func decodeSafetensorsStats(b *bufio.Reader, lim *guard.Limits) (Stats, error) {
	tensors, err := openSafetensors(b, lim)
	if err != nil {
		return Stats{}, err
	}
	if len(tensors[0].shape) == 2 {
		return decodeLoadDump(b, tensors, lim)
	}
	it := newIterations(lim)
	if err := it.add(b, tensors); err != nil {
		return Stats{}, err
	}
	s, err := it.stats()
	s.Note = "what one rank counted, alone: give the folder that holds meta_info.json and every rank's file"
	return s, err
}

// readTensorRTLLM reads a folder of statistics: meta_info.json and
// rank<r>.safetensors of every rank from 0.
func readTensorRTLLM(path string, lim *guard.Limits) (Stats, error) {
	it := newIterations(lim)
	experts, err := fromFile(filepath.Join(path, "meta_info.json"), func(f io.Reader) (int, error) { return readMeta(f, lim) })
	if err != nil {
		return Stats{}, fmt.Errorf("meta_info.json: %w", err)
	}
	it.experts = experts
	names, err := os.ReadDir(path)
	if err != nil {
		return Stats{}, err
	}
	var ranks []int
	for _, n := range names {
		digits, ok1 := strings.CutPrefix(n.Name(), "rank")
		digits, ok2 := strings.CutSuffix(digits, ".safetensors")
		if r, err := strconv.ParseUint(digits, 10, 31); ok1 && ok2 && err == nil && strconv.Itoa(int(r)) == digits {
			ranks = append(ranks, int(r))
		}
	}
	slices.Sort(ranks)
	if len(ranks) == 0 {
		return Stats{}, guard.Errorf(placement.ErrShape, "rank", -1, -1, "no rank<r>.safetensors beside meta_info.json")
	}
	for i, r := range ranks {
		if r != i {
			return Stats{}, guard.Errorf(placement.ErrShape, "rank", -1, -1, "rank%d.safetensors is missing", i)
		}
		name := fmt.Sprintf("rank%d.safetensors", r)
		_, err := fromFile(filepath.Join(path, name), func(f io.Reader) (none struct{}, err error) {
			b, err := open(f, lim.Stream, lim)
			if err != nil {
				return none, err
			}
			tensors, err := openSafetensors(b, lim)
			if err != nil {
				return none, err
			}
			return none, it.add(b, tensors)
		})
		if err != nil {
			return Stats{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return it.stats()
}

// readMeta reads meta_info.json: num_experts, among other fields.
func readMeta(f io.Reader, lim *guard.Limits) (experts int, err error) {
	b, err := open(f, int64(lim.Header), lim)
	if err != nil {
		return 0, err
	}
	s := newScanner(b, lim)
	const field = "num_experts"
	err = s.object(func(key string) (err error) {
		if key != field {
			return s.skip(0)
		}
		experts, err = s.integer(key, -1, -1)
		return err
	})
	if err == nil {
		err = s.finish()
	}
	if err == nil && (experts < 1 || experts > lim.Experts) {
		err = guard.Errorf(placement.ErrValue, field, -1, -1, "%d: between 1 and %d are supported", experts, lim.Experts)
	}
	return experts, err
}
