// Package torch reads what PyTorch's torch.save writes, and runs nothing of it.
package torch

import (
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

// matrix.MaxDims bounds a tensor's dimensions.

// Tensor is a view of a storage. Every element it can reach is inside.
type Tensor struct {
	storage *storage
	Shape   []int
	stride  []int
	offset  int
}

// newTensor checks the first arguments of _rebuild_tensor_v2.
func newTensor(args []any) (*Tensor, error) {
	st, ok1 := args[0].(*storage)
	offset, ok2 := args[1].(int64)
	size, ok3 := args[2].(*Tuple)
	stride, ok4 := args[3].(*Tuple)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(size.Items) != len(stride.Items) || len(size.Items) > matrix.MaxDims {
		return nil, errors.New("a tensor that is not well-formed")
	}
	t := &Tensor{storage: st, Shape: make([]int, len(size.Items)), stride: make([]int, len(size.Items))}
	last, count := offset, int64(1)
	const most = 1 << 40
	for i := range size.Items {
		n, ok1 := size.Items[i].(int64)
		step, ok2 := stride.Items[i].(int64)
		if !ok1 || !ok2 || n < 0 || step < 0 || n > math.MaxInt32 || step > math.MaxInt32 {
			return nil, errors.New("a tensor whose size or stride is not a number from 0 to 2^31-1")
		}
		t.Shape[i], t.stride[i] = int(n), int(step)
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

// Magic begins a zip.
const Magic = "PK\x03\x04"

// Archive is a .pt file: a zip of one pickle and the raw storages.
type Archive struct {
	files  map[string]*zip.File
	prefix string
	Lim    *guard.Limits
	left   int64 // bytes of storages that may still be loaded
	Work   int64 // elements converted so far, and 16 a row, which are bounded: who bounds them otherwise sets it to 0
	held   int64 // bytes in loaded
	loaded map[string][]byte
}

// Open reads what torch.save has written, from a stream: all of it is held.
func Open(r io.Reader, lim *guard.Limits) (*Archive, any, error) {
	raw, err := guard.Slurp(r, lim.Memory)
	if err != nil {
		return nil, nil, err
	}
	return openAt(bytes.NewReader(raw), int64(len(raw)), lim)
}

// OpenFile opens a regular file that is a zip, in place; nil where it is none.
func OpenFile(r io.Reader, lim *guard.Limits) (*Archive, any, error) {
	f, ok := r.(*os.File)
	if !ok {
		return nil, nil, nil
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil, err
	}
	var head [4]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:]) != Magic {
		return nil, nil, nil // what it is instead, the reader of streams says
	}
	if info.Size() > lim.File {
		return nil, nil, fmt.Errorf("%d bytes: at most %d are read", info.Size(), lim.File)
	}
	return openAt(f, info.Size(), lim)
}

// openAt reads the pickle now, and storages when they are asked for.
func openAt(r io.ReaderAt, size int64, lim *guard.Limits) (*Archive, any, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, nil, err
	}
	a := &Archive{files: map[string]*zip.File{}, Lim: lim, left: 16 * lim.Memory, loaded: map[string][]byte{}}
	found := ""
	for _, f := range z.File {
		if _, ok := a.files[f.Name]; ok {
			return nil, nil, fmt.Errorf("the zip holds %s twice", guard.Quote(f.Name))
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
			return nil, nil, guard.Errorf(placement.ErrValue, "byteorder", -1, -1, "%s: only little is supported", guard.Quote(string(order)))
		}
	}
	text, err := a.open(a.files[found], lim.Stream)
	if err != nil {
		return nil, nil, err
	}
	defer text.Close()
	root, err := Unpickle(text, lim)
	return a, root, err
}

// Names lists the entries of the zip, in order.
func (a *Archive) Names() []string { return slices.Sorted(maps.Keys(a.files)) }

// Entry starts reading an entry of the zip.
func (a *Archive) Entry(name string) (io.ReadCloser, error) {
	return a.open(a.files[name], a.Lim.Stream)
}

// open starts reading an entry of at most max bytes.
func (a *Archive) open(f *zip.File, max int64) (io.ReadCloser, error) {
	if f.UncompressedSize64 > uint64(max) {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are supported", guard.Quote(f.Name), f.UncompressedSize64, max)
	}
	if n := f.UncompressedSize64; n > guard.BombSize && n/guard.BombRatio > f.CompressedSize64 {
		return nil, fmt.Errorf("%s decompresses to more than %d times its size", guard.Quote(f.Name), guard.BombRatio)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", guard.Quote(f.Name), err)
	}
	return r, nil
}

func (a *Archive) entry(f *zip.File, max int64) ([]byte, error) {
	r, err := a.open(f, max)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := guard.Slurp(r, max)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", guard.Quote(f.Name), err)
	}
	return b, nil
}

// file returns the entry of a storage, which holds as many bytes as it needs.
func (a *Archive) file(st *storage) (*zip.File, error) {
	f := a.files[a.prefix+"data/"+st.key]
	if f == nil {
		return nil, fmt.Errorf("storage %s is missing from the zip", guard.Quote(st.key))
	}
	if want := st.bytes(); f.UncompressedSize64 != uint64(want) {
		return nil, fmt.Errorf("storage %s holds %d bytes, but %d %s need %d", guard.Quote(st.key), f.UncompressedSize64, st.size, st.class, want)
	}
	return f, nil
}

// Bytes is the size of all entries.
func (a *Archive) Bytes() int64 {
	n := int64(0)
	for _, f := range a.files {
		n += int64(min(f.UncompressedSize64, 1<<40))
	}
	return n
}

// Held is how many numbers the tensor's storage has, of which it may show some many times.
func (t *Tensor) Held() int { return t.storage.size }

func (st *storage) bytes() int64 { return int64(st.size) * int64(st.of.Size) }

// load returns the bytes of a storage, and keeps them while there is room.
func (a *Archive) load(st *storage) ([]byte, error) {
	if b, ok := a.loaded[st.key]; ok && int64(len(b)) == st.bytes() {
		return b, nil
	}
	f, err := a.file(st)
	if err != nil {
		return nil, err
	}
	if a.left -= st.bytes() + 64; a.left < 0 {
		return nil, fmt.Errorf("storages of more than %d bytes in all", 16*a.Lim.Memory)
	}
	if a.held += st.bytes() + 64; a.held > a.Lim.Memory/4 {
		clear(a.loaded)
		a.held = st.bytes()
	}
	b, err := a.entry(f, a.Lim.Memory)
	if err == nil && int64(len(b)) != st.bytes() {
		err = fmt.Errorf("storage %s holds %d bytes, but %d %s need %d", guard.Quote(st.key), len(b), st.size, st.class, st.bytes())
	}
	if err != nil {
		return nil, err
	}
	a.loaded[st.key] = b
	return b, nil
}

// convert counts the elements of a row and makes numbers of them.
func (a *Archive) convert(dst []float64, of matrix.Type, raw []byte, step int) error {
	if a.Work += int64(len(dst)) + 16; a.Work > 1<<30 {
		return errors.New("more elements in all than are supported")
	}
	of.Read(dst, raw, step*of.Size)
	return nil
}

// Row returns the elements t[index...] along the last dimension.
func (a *Archive) Row(t *Tensor, index ...int) ([]float64, error) {
	raw, err := a.load(t.storage)
	if err != nil {
		return nil, err
	}
	at := t.offset
	for i, k := range index {
		at += k * t.stride[i]
	}
	out := make([]float64, t.Shape[len(index)])
	if len(out) == 0 {
		return out, nil
	}
	return out, a.convert(out, t.storage.of, raw[at*t.storage.of.Size:], t.stride[len(index)])
}

// Rows calls each for every row of t, in order, valid until the next. A tensor
// of some size that lies in one piece is read as a stream.
func (a *Archive) Rows(t *Tensor, each func(row []float64) error) error {
	n := t.Shape[len(t.Shape)-1]
	count := 1
	for _, d := range t.Shape[:len(t.Shape)-1] {
		count *= d
	}
	if !t.contiguous() && int64(count)*int64(n+16) > 1<<24 && int64(count)*int64(n) > int64(t.storage.size) {
		return errors.New("a view of more elements in all than are supported: save a contiguous copy, tensor.contiguous()")
	}
	if !t.contiguous() || t.storage.bytes() < 1<<16 {
		index := make([]int, len(t.Shape)-1)
		for r := range count {
			for i, rest := len(index)-1, r; i >= 0; i-- {
				index[i] = rest % t.Shape[i]
				rest /= t.Shape[i]
			}
			row, err := a.Row(t, index...)
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
	r, err := a.open(f, a.Lim.File)
	if err != nil {
		return err
	}
	defer r.Close()
	size := t.storage.of.Size
	b := bufio.NewReaderSize(r, 1<<18)
	if _, err := io.CopyN(io.Discard, b, int64(t.offset)*int64(size)); err != nil {
		return fmt.Errorf("%s: %w", guard.Quote(f.Name), err)
	}
	raw, row := make([]byte, n*size), make([]float64, n)
	for range count {
		if _, err := io.ReadFull(b, raw); err != nil {
			return fmt.Errorf("%s: %w", guard.Quote(f.Name), err)
		}
		t.storage.of.Read(row, raw, size)
		if err := each(row); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, b); err != nil { // the checksum stands at the end
		return fmt.Errorf("%s: %w", guard.Quote(f.Name), err)
	}
	return nil
}

// contiguous says whether the elements lie one after the other.
func (t *Tensor) contiguous() bool {
	step := 1
	for i := len(t.Shape) - 1; i >= 0; i-- {
		if t.Shape[i] != 1 && t.stride[i] != step {
			return false
		}
		step *= t.Shape[i]
	}
	return true
}
