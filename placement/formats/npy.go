package formats

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
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

const npyMagic = "\x93NUMPY"

// npy is a NumPy array of numbers, held as its file has it.
type npy struct {
	shape   []int
	fortran bool
	of      matrix.Type
	raw     []byte
	cells   int64
}

// openNpy reads the header.
func openNpy(b *bufio.Reader, lim *limits) (*npy, error) {
	text, err := npyHeaderText(b, lim)
	if err != nil {
		return nil, err
	}
	a, err := parseNpyHeader(text)
	if err != nil {
		return nil, err
	}
	a.cells = 1
	for _, n := range a.shape {
		if n == 0 {
			return nil, errorf(placement.ErrShape, "npy", -1, -1, "shape %s holds nothing", shapeText(a.shape))
		}
		if a.cells *= int64(n); a.cells > lim.stream {
			return nil, errorf(placement.ErrShape, "npy", -1, -1, "shape %s: at most %d numbers are supported", shapeText(a.shape), lim.stream)
		}
	}
	return a, nil
}

// readNpy reads a whole .npy: its header, then as many bytes as its shape
// needs, neither more nor less. Memory grows with what is there, not with what
// the header says.
func readNpy(b *bufio.Reader, lim *limits) (*npy, error) {
	a, err := openNpy(b, lim)
	if err != nil {
		return nil, err
	}
	return a, a.hold(b, lim)
}

// hold reads all numbers.
func (a *npy) hold(b *bufio.Reader, lim *limits) error {
	want := a.cells * int64(a.of.Size)
	if a.cells > int64(lim.cells) || want > lim.memory {
		return errorf(placement.ErrShape, "npy", -1, -1, "shape %s: at most %d numbers in %d bytes are supported", shapeText(a.shape), lim.cells, lim.memory)
	}
	var raw bytes.Buffer
	if n, err := io.CopyN(&raw, b, want); err != nil {
		return a.short(n, err)
	}
	a.raw = raw.Bytes()
	return a.ended(b)
}

func (a *npy) short(n int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errorf(placement.ErrShape, "npy", -1, -1, "%d bytes of numbers, but shape %s needs %d", n, shapeText(a.shape), a.cells*int64(a.of.Size))
	}
	return err
}

func (a *npy) ended(b *bufio.Reader) error {
	if _, err := b.ReadByte(); err != io.EOF {
		if err != nil {
			return err
		}
		return errorf(placement.ErrShape, "npy", -1, -1, "more bytes than shape %s needs", shapeText(a.shape))
	}
	return nil
}

// npyHeaderText reads magic, version and header.
func npyHeaderText(b *bufio.Reader, lim *limits) (string, error) {
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
		return "", errorf(placement.ErrValue, "npy", -1, -1, "version %d: 1, 2 and 3 are known", head[6])
	}
	if n > uint64(min(lim.header, 1<<16)) {
		return "", errorf(placement.ErrShape, "npy", -1, -1, "a header of %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(b, text); err != nil {
		return "", fmt.Errorf("npy: the header: %w", err)
	}
	return string(text), nil
}

// parseNpyHeader reads {'descr': '<i8', 'fortran_order': False, 'shape': (58, 256), }.
func parseNpyHeader(text string) (*npy, error) {
	bad := func(what string) (*npy, error) {
		return nil, errorf(placement.ErrValue, "npy", -1, -1, "the header %s: %s", quote(text), what)
	}
	descr, ok1 := headerValue(text, "'descr': '", "'")
	order, ok2 := headerValue(text, "'fortran_order': ", ",")
	shape, ok3 := headerValue(text, "'shape': (", ")")
	if !ok1 || !ok2 || !ok3 {
		return bad("descr, fortran_order and shape are expected")
	}
	a := &npy{}
	switch strings.TrimSpace(order) {
	case "False":
	case "True":
		a.fortran = true
	default:
		return bad("fortran_order is neither True nor False")
	}
	for field := range strings.SplitSeq(shape, ",") {
		if field = strings.TrimSpace(field); field == "" {
			continue
		}
		n, err := strconv.ParseUint(field, 10, 31)
		if err != nil || len(a.shape) == maxDims {
			return bad("the shape is not one")
		}
		a.shape = append(a.shape, int(n))
	}
	var known bool
	if a.of, known = matrix.NumPy(descr); known {
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

// row appends to dst row r of the array, seen as rows of its last dimension.
func (a *npy) row(dst []float64, r int) []float64 {
	n := a.shape[len(a.shape)-1]
	at, step := r*n, 1
	if a.fortran {
		// The first dimension is the fastest: take r apart from the back.
		at, step = 0, 1
		rest := r
		strides := make([]int, len(a.shape))
		for i := range a.shape {
			strides[i] = step
			step *= a.shape[i]
		}
		for i := len(a.shape) - 2; i >= 0; i-- {
			at += rest % a.shape[i] * strides[i]
			rest /= a.shape[i]
		}
		step = strides[len(strides)-1]
	}
	return a.elements(dst, a.raw[at*a.of.Size:], n, step*a.of.Size)
}

// elements appends n numbers of raw, one every step bytes.
func (a *npy) elements(dst []float64, raw []byte, n, step int) []float64 {
	had := len(dst)
	dst = slices.Grow(dst, n)[:had+n]
	a.of.Read(dst[had:], raw, step)
	return dst
}

// decodeNpyStats reads [layers, experts] or [windows, layers, experts]: as a
// stream, unless the first dimension is the fastest.
func decodeNpyStats(b *bufio.Reader, lim *limits) (Stats, error) {
	a, err := openNpy(b, lim)
	if err != nil {
		return Stats{}, err
	}
	if len(a.shape) != 2 && len(a.shape) != 3 {
		return Stats{}, errorf(placement.ErrShape, "npy", -1, -1, "shape %s: (layers, experts) or (windows, layers, experts) is expected", shapeText(a.shape))
	}
	t := table{lim: lim, field: "npy"}
	layers, experts := a.shape[len(a.shape)-2], a.shape[len(a.shape)-1]
	if layers > lim.layers || experts > lim.experts {
		return Stats{}, errorf(placement.ErrShape, "npy", -1, -1, "shape %s: at most %d layers of %d experts are supported", shapeText(a.shape), lim.layers, lim.experts)
	}
	if a.fortran {
		if err := a.hold(b, lim); err != nil {
			return Stats{}, err
		}
	}
	var row []float64
	raw := make([]byte, experts*a.of.Size)
	for r := range int(a.cells / int64(experts)) {
		if a.fortran {
			row = a.row(row[:0], r)
		} else {
			if n, err := io.ReadFull(b, raw); err != nil {
				return Stats{}, a.short(int64(r)*int64(len(raw))+int64(n), err)
			}
			row = a.elements(row[:0], raw, experts, a.of.Size)
		}
		if err := t.add(row); err != nil {
			return Stats{}, err
		}
		if (r+1)%layers == 0 {
			if err := t.end(); err != nil {
				return Stats{}, err
			}
		}
	}
	if !a.fortran {
		if err := a.ended(b); err != nil {
			return Stats{}, err
		}
	}
	return t.stats("npy")
}

// npyHeader writes magic, version 1.0 and header, padded to 64 bytes as NumPy does.
func npyHeader(descr string, shape []int) []byte {
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shapeText(shape))
	pad := 63 - (10+len(text))%64
	text += strings.Repeat(" ", pad) + "\n"
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}
