package matrix

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// MaxDims bounds an array's dimensions.
const MaxDims = 8

// NpyMagic begins a .npy.
const NpyMagic = "\x93NUMPY"

// Npy is a NumPy array of numbers, held as its file has it.
type Npy struct {
	Shape   []int
	Fortran bool // the first dimension is the fastest
	Of      Type
	Cells   int64
	raw     []byte
}

// OpenNpy reads the header.
func OpenNpy(b *bufio.Reader, lim *guard.Limits) (*Npy, error) {
	text, err := NpyHeaderText(b, lim)
	if err != nil {
		return nil, err
	}
	a, err := ParseNpyHeader(text)
	if err != nil {
		return nil, err
	}
	a.Cells = 1
	for _, n := range a.Shape {
		if n == 0 {
			return nil, guard.Errorf(placement.ErrShape, "npy", -1, -1, "shape %s holds nothing", guard.Shape(a.Shape))
		}
		if a.Cells *= int64(n); a.Cells > lim.Stream {
			return nil, guard.Errorf(placement.ErrShape, "npy", -1, -1, "shape %s: at most %d numbers are supported", guard.Shape(a.Shape), lim.Stream)
		}
	}
	return a, nil
}

// ReadNpy reads a whole .npy: its header, then as many bytes as its shape
// needs, neither more nor less. Memory grows with what is there, not with what
// the header says.
func ReadNpy(b *bufio.Reader, lim *guard.Limits) (*Npy, error) {
	a, err := OpenNpy(b, lim)
	if err != nil {
		return nil, err
	}
	return a, a.Hold(b, lim)
}

// Hold reads all numbers.
func (a *Npy) Hold(b *bufio.Reader, lim *guard.Limits) error {
	want := a.Cells * int64(a.Of.Size)
	if a.Cells > int64(lim.Cells) || want > lim.Memory {
		return guard.Errorf(placement.ErrShape, "npy", -1, -1, "shape %s: at most %d numbers in %d bytes are supported", guard.Shape(a.Shape), lim.Cells, lim.Memory)
	}
	var raw bytes.Buffer
	if n, err := io.CopyN(&raw, b, want); err != nil {
		return a.Short(n, err)
	}
	a.raw = raw.Bytes()
	return a.Ended(b)
}

// Short is the error of an input that ends after n bytes of numbers.
func (a *Npy) Short(n int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return guard.Errorf(placement.ErrShape, "npy", -1, -1, "%d bytes of numbers, but shape %s needs %d", n, guard.Shape(a.Shape), a.Cells*int64(a.Of.Size))
	}
	return err
}

// Ended demands that nothing follows.
func (a *Npy) Ended(b *bufio.Reader) error {
	if _, err := b.ReadByte(); err != io.EOF {
		if err != nil {
			return err
		}
		return guard.Errorf(placement.ErrShape, "npy", -1, -1, "more bytes than shape %s needs", guard.Shape(a.Shape))
	}
	return nil
}

// NpyHeaderText reads magic, version and header.
func NpyHeaderText(b *bufio.Reader, lim *guard.Limits) (string, error) {
	var head [8]byte
	if _, err := io.ReadFull(b, head[:]); err != nil {
		return "", fmt.Errorf("npy: the header: %w", err)
	}
	var n uint64
	switch head[6] {
	case 1:
		var v uint16
		err := binary.Read(b, binary.LittleEndian, &v)
		if n = uint64(v); err != nil {
			return "", fmt.Errorf("npy: the header: %w", err)
		}
	case 2, 3:
		var v uint32
		err := binary.Read(b, binary.LittleEndian, &v)
		if n = uint64(v); err != nil {
			return "", fmt.Errorf("npy: the header: %w", err)
		}
	default:
		return "", guard.Errorf(placement.ErrValue, "npy", -1, -1, "version %d: 1, 2 and 3 are known", head[6])
	}
	if n > uint64(min(lim.Header, 1<<16)) {
		return "", guard.Errorf(placement.ErrShape, "npy", -1, -1, "a header of %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(b, text); err != nil {
		return "", fmt.Errorf("npy: the header: %w", err)
	}
	return string(text), nil
}

// ParseNpyHeader reads {'descr': '<i8', 'fortran_order': False, 'shape': (58, 256), }.
func ParseNpyHeader(text string) (*Npy, error) {
	bad := func(what string) (*Npy, error) {
		return nil, guard.Errorf(placement.ErrValue, "npy", -1, -1, "the header %s: %s", guard.Quote(text), what)
	}
	descr, ok1 := headerValue(text, "'descr': '", "'")
	order, ok2 := headerValue(text, "'fortran_order': ", ",")
	shape, ok3 := headerValue(text, "'shape': (", ")")
	if !ok1 || !ok2 || !ok3 {
		return bad("descr, fortran_order and shape are expected")
	}
	a := &Npy{}
	switch strings.TrimSpace(order) {
	case "False":
	case "True":
		a.Fortran = true
	default:
		return bad("fortran_order is neither True nor False")
	}
	for field := range strings.SplitSeq(shape, ",") {
		if field = strings.TrimSpace(field); field == "" {
			continue
		}
		n, err := strconv.ParseUint(field, 10, 31)
		if err != nil || len(a.Shape) == MaxDims {
			return bad("the shape is not one")
		}
		a.Shape = append(a.Shape, int(n))
	}
	var known bool
	if a.Of, known = NumPy(descr); known {
		return a, nil
	}
	if len(descr) != 3 {
		return bad("descr is not a type of numbers")
	}
	return bad("numbers are expected: b1, i1 to i8, u1 to u8, f2, f4, f8")
}

// headerValue returns what stands between a key and an end.
func headerValue(text, key, end string) (string, bool) {
	_, rest, ok := strings.Cut(text, key)
	if !ok {
		return "", false
	}
	value, _, ok := strings.Cut(rest, end)
	return value, ok
}

// Row appends to dst row r of the array, seen as rows of its last dimension.
func (a *Npy) Row(dst []float64, r int) []float64 {
	n := a.Shape[len(a.Shape)-1]
	at, step := r*n, 1
	if a.Fortran {
		// The first dimension is the fastest: take r apart from the back.
		at, step = 0, 1
		rest := r
		strides := make([]int, len(a.Shape))
		for i := range a.Shape {
			strides[i] = step
			step *= a.Shape[i]
		}
		for i := len(a.Shape) - 2; i >= 0; i-- {
			at += rest % a.Shape[i] * strides[i]
			rest /= a.Shape[i]
		}
		step = strides[len(strides)-1]
	}
	return a.Elements(dst, a.raw[at*a.Of.Size:], n, step*a.Of.Size)
}

// Elements appends n numbers of raw, one every step bytes.
func (a *Npy) Elements(dst []float64, raw []byte, n, step int) []float64 {
	had := len(dst)
	dst = slices.Grow(dst, n)[:had+n]
	a.Of.Read(dst[had:], raw, step)
	return dst
}

// NpyHeader writes magic, version 1.0 and header, padded to 64 bytes as NumPy does.
func NpyHeader(descr string, shape []int) []byte {
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, guard.Shape(shape))
	pad := 63 - (10+len(text))%64
	text += strings.Repeat(" ", pad) + "\n"
	b := append([]byte(NpyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}
