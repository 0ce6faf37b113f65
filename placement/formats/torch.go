package formats

import (
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

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
	const most = 1 << 40
	for i := range size.items {
		n, ok1 := size.items[i].(int64)
		step, ok2 := stride.items[i].(int64)
		if !ok1 || !ok2 || n < 0 || step < 0 || n > math.MaxInt32 || step > math.MaxInt32 {
			return nil, errors.New("a tensor whose size or stride is not a number from 0 to 2^31-1")
		}
		t.shape[i], t.stride[i] = int(n), int(step)
		last += max(n-1, 0) * step // at most 2^62 a dimension
		if count *= n; count > most || last < 0 || last > most {
			return nil, errors.New("a tensor of more elements than are supported")
		}
	}
	if offset < 0 || offset > int64(st.size) || (count > 0 && (last < 0 || last >= int64(st.size))) {
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
	held   int64 // bytes in loaded
	loaded map[string][]byte
}

// openTorch reads what torch.save has written, from a stream: all of it is held.
func openTorch(r io.Reader, lim *limits) (*archive, any, error) {
	raw, err := slurp(r, lim.memory)
	if err != nil {
		return nil, nil, err
	}
	return openTorchAt(bytes.NewReader(raw), int64(len(raw)), lim)
}

// openTorchFile opens a regular file that is a zip, in place; nil where it is none.
func openTorchFile(r io.Reader, lim *limits) (*archive, any, error) {
	f, ok := r.(*os.File)
	if !ok {
		return nil, nil, nil
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil, err
	}
	var head [4]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:]) != zipMagic {
		return nil, nil, nil // what it is instead, the reader of streams says
	}
	if info.Size() > lim.file {
		return nil, nil, fmt.Errorf("%d bytes: at most %d are read", info.Size(), lim.file)
	}
	return openTorchAt(f, info.Size(), lim)
}

// openTorchAt reads the pickle now, and storages when they are asked for.
func openTorchAt(r io.ReaderAt, size int64, lim *limits) (*archive, any, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, nil, err
	}
	a := &archive{files: map[string]*zip.File{}, lim: lim, left: 16 * lim.memory, loaded: map[string][]byte{}}
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
		return a, nil, nil // an .npz, perhaps
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
	text, err := a.open(a.files[found], lim.stream)
	if err != nil {
		return nil, nil, err
	}
	defer text.Close()
	root, err := unpickle(text, lim)
	return a, root, err
}

// open starts reading an entry of at most max bytes.
func (a *archive) open(f *zip.File, max int64) (io.ReadCloser, error) {
	if f.UncompressedSize64 > uint64(max) {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are supported", quote(f.Name), f.UncompressedSize64, max)
	}
	if n := f.UncompressedSize64; n > bombSize && n/bombRatio > f.CompressedSize64 {
		return nil, fmt.Errorf("%s decompresses to more than %d times its size", quote(f.Name), bombRatio)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quote(f.Name), err)
	}
	return r, nil
}

func (a *archive) entry(f *zip.File, max int64) ([]byte, error) {
	r, err := a.open(f, max)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := slurp(r, max)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quote(f.Name), err)
	}
	return b, nil
}

// file returns the entry of a storage, which holds as many bytes as it needs.
func (a *archive) file(st *storage) (*zip.File, error) {
	f := a.files[a.prefix+"data/"+st.key]
	if f == nil {
		return nil, fmt.Errorf("storage %s is missing from the zip", quote(st.key))
	}
	if want := st.bytes(); f.UncompressedSize64 != uint64(want) {
		return nil, fmt.Errorf("storage %s holds %d bytes, but %d %s need %d", quote(st.key), f.UncompressedSize64, st.size, st.class, want)
	}
	return f, nil
}

// bytes is the size of all entries.
func (a *archive) bytes() int64 {
	n := int64(0)
	for _, f := range a.files {
		n += int64(min(f.UncompressedSize64, 1<<40))
	}
	return n
}

func (st *storage) bytes() int64 { return int64(st.size) * int64(st.of.Size) }

// load returns the bytes of a storage, and keeps them while there is room.
func (a *archive) load(st *storage) ([]byte, error) {
	if b, ok := a.loaded[st.key]; ok && int64(len(b)) == st.bytes() {
		return b, nil
	}
	f, err := a.file(st)
	if err != nil {
		return nil, err
	}
	if a.left -= st.bytes() + 64; a.left < 0 {
		return nil, fmt.Errorf("storages of more than %d bytes in all", 16*a.lim.memory)
	}
	if a.held += st.bytes() + 64; a.held > a.lim.memory/4 {
		clear(a.loaded)
		a.held = st.bytes()
	}
	b, err := a.entry(f, a.lim.memory)
	if err == nil && int64(len(b)) != st.bytes() {
		err = fmt.Errorf("storage %s holds %d bytes, but %d %s need %d", quote(st.key), len(b), st.size, st.class, st.bytes())
	}
	if err != nil {
		return nil, err
	}
	a.loaded[st.key] = b
	return b, nil
}

// convert counts the elements of a row and makes numbers of them.
func (a *archive) convert(dst []float64, of matrix.Type, raw []byte, step int) error {
	if a.work += int64(len(dst)) + 16; a.work > 1<<30 {
		return errors.New("more elements in all than are supported")
	}
	of.Read(dst, raw, step*of.Size)
	return nil
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
	out := make([]float64, t.shape[len(index)])
	if len(out) == 0 {
		return out, nil
	}
	return out, a.convert(out, t.storage.of, raw[at*t.storage.of.Size:], t.stride[len(index)])
}

// rows calls each for every row of t, in order, valid until the next. A tensor
// of some size that lies in one piece is read as a stream.
func (a *archive) rows(t *tensor, each func(row []float64) error) error {
	n := t.shape[len(t.shape)-1]
	count := 1
	for _, d := range t.shape[:len(t.shape)-1] {
		count *= d
	}
	if !t.contiguous() && int64(count)*int64(n+16) > 1<<24 && int64(count)*int64(n) > int64(t.storage.size) {
		return errors.New("a view of more elements in all than are supported: save a contiguous copy, tensor.contiguous()")
	}
	if !t.contiguous() || t.storage.bytes() < 1<<16 {
		index := make([]int, len(t.shape)-1)
		for r := range count {
			for i, rest := len(index)-1, r; i >= 0; i-- {
				index[i] = rest % t.shape[i]
				rest /= t.shape[i]
			}
			row, err := a.row(t, index...)
			if err == nil {
				err = each(row)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	f, err := a.file(t.storage)
	if err != nil {
		return err
	}
	r, err := a.open(f, a.lim.file)
	if err != nil {
		return err
	}
	defer r.Close()
	size := t.storage.of.Size
	b := bufio.NewReaderSize(r, 1<<18)
	if _, err := io.CopyN(io.Discard, b, int64(t.offset)*int64(size)); err != nil {
		return fmt.Errorf("%s: %w", quote(f.Name), err)
	}
	raw, row := make([]byte, n*size), make([]float64, n)
	for range count {
		if _, err := io.ReadFull(b, raw); err != nil {
			return fmt.Errorf("%s: %w", quote(f.Name), err)
		}
		t.storage.of.Read(row, raw, size)
		if err := each(row); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, b); err != nil { // the checksum stands at the end
		return fmt.Errorf("%s: %w", quote(f.Name), err)
	}
	return nil
}

// contiguous says whether the elements lie one after the other.
func (t *tensor) contiguous() bool {
	step := 1
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] != 1 && t.stride[i] != step {
			return false
		}
		step *= t.shape[i]
	}
	return true
}

// windows reads a tensor [layers, experts] or [windows, layers, experts] into t.
func (a *archive) windows(x any, t *table) error {
	v, ok := x.(*tensor)
	if !ok || (len(v.shape) != 2 && len(v.shape) != 3) {
		return errorf(placement.ErrShape, t.field, -1, -1, "a tensor [layers, experts] or [windows, layers, experts] is expected")
	}
	dims := v.shape[len(v.shape)-2:]
	if dims[0] > a.lim.layers || dims[1] > a.lim.experts {
		return errorf(placement.ErrShape, t.field, -1, -1, "shape %s: at most %d layers of %d experts are supported", shapeText(v.shape), a.lim.layers, a.lim.experts)
	}
	if dims[0] == 0 || dims[1] == 0 {
		return errorf(placement.ErrShape, t.field, -1, -1, "shape %s holds nothing", shapeText(v.shape))
	}
	rows := 0
	var place error
	err := a.rows(v, func(row []float64) error {
		if place = t.add(row); place == nil {
			if rows++; rows%dims[0] == 0 {
				place = t.end()
			}
		}
		return place
	})
	if err != nil && place == nil {
		return fmt.Errorf("%s: %w", t.field, err)
	}
	return err
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
	if root == nil {
		return a.npz()
	}
	if dict, ok := root.(*pickleDict); ok {
		return decodeSGLang(dict, a)
	}
	t := table{lim: a.lim, field: "tensor"}
	if err := a.windows(root, &t); err != nil {
		return Stats{}, err
	}
	return t.stats("vllm-ascend")
}

// npz reads the one array of NumPy's .npz, or the one that has a name for loads.
func (a *archive) npz() (Stats, error) {
	var names []string
	for name := range a.files {
		if strings.HasSuffix(name, ".npy") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return Stats{}, errors.New("a zip without data.pkl, which a .pt holds, and without .npy, which an .npz holds")
	}
	found := names[0]
	if len(names) > 1 {
		i := slices.IndexFunc(names, func(n string) bool { return n == "logical_count.npy" || n == "loads.npy" })
		if i < 0 {
			return Stats{}, fmt.Errorf("an .npz of %d arrays, none of them named logical_count or loads: save the one that is meant by itself", len(names))
		}
		found = names[i]
	}
	r, err := a.open(a.files[found], a.lim.stream)
	if err != nil {
		return Stats{}, err
	}
	defer r.Close()
	b := bufio.NewReaderSize(r, 1<<18)
	if head, _ := b.Peek(len(npyMagic)); string(head) != npyMagic {
		return Stats{}, fmt.Errorf("%s is no array of NumPy", quote(found))
	}
	s, err := decodeNpyStats(b, a.lim)
	if err != nil {
		return Stats{}, fmt.Errorf("%s: %w", quote(found), err)
	}
	return s, nil
}
