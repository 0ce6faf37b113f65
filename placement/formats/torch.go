package formats

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"github.com/moelb/moelb/placement"
)

// storageSizes are the bytes of an element of each class of storage.
var storageSizes = map[string]int{"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
	"IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1}

// maxDims bounds a tensor's dimensions.
const maxDims = 8

// tensor is a view of a storage. Every element it can reach is inside.
type tensor struct {
	storage       *storage
	offset        int
	shape, stride []int
}

// newTensor checks the first arguments of _rebuild_tensor_v2.
func newTensor(args []any) (*tensor, error) {
	st, ok1 := args[0].(*storage)
	offset, ok2 := args[1].(int64)
	size, ok3 := args[2].(*pickleTuple)
	stride, ok4 := args[3].(*pickleTuple)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(size.items) != len(stride.items) || len(size.items) > maxDims {
		return nil, errors.New("a tensor that is not well-formed")
	}
	t := &tensor{storage: st, shape: make([]int, len(size.items)), stride: make([]int, len(size.items))}
	last, count := offset, int64(1)
	for i := range size.items {
		n, ok1 := size.items[i].(int64)
		step, ok2 := stride.items[i].(int64)
		if !ok1 || !ok2 || n < 0 || step < 0 || n > math.MaxInt32 || step > math.MaxInt32 {
			return nil, errors.New("a tensor whose size or stride is not a number from 0 to 2^31-1")
		}
		t.shape[i], t.stride[i] = int(n), int(step)
		last += max(n-1, 0) * step
		if count *= n; count > int64(st.size) || last < 0 {
			break // also where an expanded view would repeat elements
		}
	}
	if offset < 0 || offset > int64(st.size) || count > int64(st.size) || (count > 0 && (last < 0 || last >= int64(st.size))) {
		return nil, fmt.Errorf("a tensor that reaches beyond its storage of %d elements", st.size)
	}
	t.offset = int(offset)
	return t, nil
}

// archive is a .pt file: a zip of one pickle and the raw storages.
type archive struct {
	files  map[string]*zip.File
	prefix string
	lim    *limits
	left   int64 // bytes of storages that may still be loaded
	work   int64 // elements converted so far, and 16 a row
	loaded map[string][]byte
}

// openTorch reads what torch.save has written: the pickle now, storages when
// they are asked for.
func openTorch(r io.Reader, lim *limits) (*archive, any, error) {
	raw, err := slurp(r, lim.memory)
	if err != nil {
		return nil, nil, err
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, nil, err
	}
	a := &archive{files: map[string]*zip.File{}, lim: lim, left: lim.memory, loaded: map[string][]byte{}}
	found := ""
	for _, f := range z.File {
		if _, ok := a.files[f.Name]; ok {
			return nil, nil, fmt.Errorf("the zip holds %s twice", quote(f.Name))
		}
		a.files[f.Name] = f
		if path.Base(f.Name) == "data.pkl" {
			if found != "" {
				return nil, nil, errors.New("the zip holds two data.pkl")
			}
			found = f.Name
		}
	}
	if found == "" {
		return nil, nil, errors.New("a zip without data.pkl: .pt files hold one, .npz files are not read")
	}
	a.prefix = strings.TrimSuffix(found, "data.pkl")
	if f, ok := a.files[a.prefix+"byteorder"]; ok {
		order, err := a.entry(f, 16)
		if err != nil {
			return nil, nil, err
		}
		if string(order) != "little" {
			return nil, nil, errorf(placement.ErrValue, "byteorder", -1, -1, "%s: only little is supported", quote(string(order)))
		}
	}
	text, err := a.entry(a.files[found], int64(lim.pickle))
	if err != nil {
		return nil, nil, err
	}
	root, err := unpickle(text, lim)
	return a, root, err
}

func (a *archive) entry(f *zip.File, max int64) ([]byte, error) {
	if f.UncompressedSize64 > uint64(max) {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are supported", quote(f.Name), f.UncompressedSize64, max)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quote(f.Name), err)
	}
	defer r.Close()
	b, err := slurp(r, max)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quote(f.Name), err)
	}
	return b, nil
}

// load returns the bytes of a storage.
func (a *archive) load(st *storage) ([]byte, error) {
	want := int64(st.size) * int64(storageSizes[st.kind])
	b, ok := a.loaded[st.key]
	if !ok {
		f := a.files[a.prefix+"data/"+st.key]
		if f == nil {
			return nil, fmt.Errorf("storage %s is missing from the zip", quote(st.key))
		}
		if want > a.left {
			return nil, fmt.Errorf("storages of more than %d bytes in all", a.lim.memory)
		}
		var err error
		if b, err = a.entry(f, want); err != nil {
			return nil, err
		}
		a.left -= int64(len(b))
		a.loaded[st.key] = b
	}
	if int64(len(b)) != want {
		return nil, fmt.Errorf("storage %s holds %d bytes, but %d %s need %d", quote(st.key), len(b), st.size, st.kind, want)
	}
	return b, nil
}

// row returns the elements t[index...] along the last dimension.
func (a *archive) row(t *tensor, index ...int) ([]float64, error) {
	raw, err := a.load(t.storage)
	if err != nil {
		return nil, err
	}
	at := t.offset
	for i, k := range index {
		at += k * t.stride[i]
	}
	n, step := t.shape[len(index)], t.stride[len(index)]
	if a.work += int64(n) + 16; a.work > 4*int64(a.lim.cells) {
		return nil, errors.New("more elements in all than are supported")
	}
	out := make([]float64, n)
	size := storageSizes[t.storage.kind]
	for i := range out {
		out[i] = element(t.storage.kind, raw[(at+i*step)*size:])
	}
	return out, nil
}

func element(kind string, b []byte) float64 {
	le := binary.LittleEndian
	switch kind {
	case "DoubleStorage":
		return math.Float64frombits(le.Uint64(b))
	case "FloatStorage":
		return float64(math.Float32frombits(le.Uint32(b)))
	case "HalfStorage":
		return half(le.Uint16(b))
	case "BFloat16Storage":
		return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16))
	case "LongStorage":
		return float64(int64(le.Uint64(b)))
	case "IntStorage":
		return float64(int32(le.Uint32(b)))
	case "ShortStorage":
		return float64(int16(le.Uint16(b)))
	case "CharStorage":
		return float64(int8(b[0]))
	}
	return float64(b[0]) // ByteStorage, BoolStorage
}

// half converts an IEEE 754 half-precision number.
func half(b uint16) float64 {
	exp, frac := int(b>>10&31), float64(b&1023)
	v := math.Ldexp(1024+frac, exp-25)
	switch {
	case exp == 0:
		v = math.Ldexp(frac, -24)
	case exp == 31 && frac == 0:
		v = math.Inf(1)
	case exp == 31:
		return math.NaN()
	}
	if b>>15 == 1 {
		return -v
	}
	return v
}

// windows reads a tensor [layers, experts] or [windows, layers, experts] into t.
func (a *archive) windows(x any, t *table) error {
	v, ok := x.(*tensor)
	if !ok || (len(v.shape) != 2 && len(v.shape) != 3) {
		return errorf(placement.ErrShape, t.field, -1, -1, "a tensor [layers, experts] or [windows, layers, experts] is expected")
	}
	windows, index := 1, []int(nil)
	dims := v.shape
	if len(v.shape) == 3 {
		windows, dims = v.shape[0], v.shape[1:]
		index = []int{0}
	}
	if dims[0] > a.lim.layers || dims[1] > a.lim.experts || int64(windows)*int64(dims[0])*int64(dims[1]) > int64(a.lim.cells) {
		return errorf(placement.ErrShape, t.field, -1, -1, "shape %s: at most %d layers of %d experts, %d numbers in all, are supported", shapeText(v.shape), a.lim.layers, a.lim.experts, a.lim.cells)
	}
	if dims[0] == 0 || dims[1] == 0 {
		return errorf(placement.ErrShape, t.field, -1, -1, "shape %s holds nothing", shapeText(v.shape))
	}
	for w := range windows {
		if index != nil {
			index[0] = w
		}
		for l := range dims[0] {
			row, err := a.row(v, append(index, l)...)
			if err != nil {
				return fmt.Errorf("%s: %w", t.field, err)
			}
			if err := t.add(row); err != nil {
				return err
			}
		}
		if err := t.end(); err != nil {
			return err
		}
	}
	return nil
}

// decodeTorch reads a .pt file of statistics.
func decodeTorch(r io.Reader, lim *limits) (Stats, error) {
	a, root, err := openTorch(r, lim)
	if err != nil {
		return Stats{}, err
	}
	return a.stats(root)
}

// stats tells SGLang's dict from vllm-ascend's tensor.
func (a *archive) stats(root any) (Stats, error) {
	if dict, ok := root.(*pickleDict); ok {
		return decodeSGLang(dict, a)
	}
	t := table{lim: a.lim, field: "tensor"}
	if err := a.windows(root, &t); err != nil {
		return Stats{}, err
	}
	return t.stats("vllm-ascend")
}
