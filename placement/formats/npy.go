package formats

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/moelb/moelb/placement"
)

const npyMagic = "\x93NUMPY"

// npy is a NumPy array of numbers, held as its file has it.
type npy struct {
	shape   []int
	fortran bool
	kind    byte // i, u, f or b
	size    int  // bytes an element
	order   binary.ByteOrder
	raw     []byte
}

// readNpy reads a whole .npy: its header, then as many bytes as its shape
// needs, neither more nor less. Memory grows with what is there, not with what
// the header says.
func readNpy(b *bufio.Reader, lim *limits) (*npy, error) {
	text, err := npyHeaderText(b, lim)
	if err != nil {
		return nil, err
	}
	a, err := parseNpyHeader(text)
	if err != nil {
		return nil, err
	}
	cells := int64(1)
	for _, n := range a.shape {
		if n == 0 {
			return nil, errorf(placement.ErrShape, "npy", -1, -1, "shape %s holds nothing", shapeText(a.shape))
		}
		if cells *= int64(n); cells > int64(lim.cells) {
			return nil, errorf(placement.ErrShape, "npy", -1, -1, "shape %s: at most %d numbers are supported", shapeText(a.shape), lim.cells)
		}
	}
	want := cells * int64(a.size)
	if want > lim.memory {
		return nil, errorf(placement.ErrShape, "npy", -1, -1, "shape %s: %d bytes of numbers, at most %d are supported", shapeText(a.shape), want, lim.memory)
	}
	var raw bytes.Buffer
	if _, err := io.CopyN(&raw, b, want); err != nil {
		if err == io.EOF {
			err = errorf(placement.ErrShape, "npy", -1, -1, "%d bytes of numbers, but shape %s needs %d", raw.Len(), shapeText(a.shape), want)
		}
		return nil, err
	}
	if _, err := b.ReadByte(); err != io.EOF {
		if err != nil {
			return nil, err
		}
		return nil, errorf(placement.ErrShape, "npy", -1, -1, "more bytes than shape %s needs", shapeText(a.shape))
	}
	a.raw = raw.Bytes()
	return a, nil
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
	a := &npy{order: binary.LittleEndian}
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
	if len(descr) != 3 || !strings.Contains("<>|=", descr[:1]) {
		return bad("descr is not a type of numbers")
	}
	if descr[0] == '>' {
		a.order = binary.BigEndian
	}
	a.kind, a.size = descr[1], int(descr[2]-'0')
	switch descr[1:] {
	case "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8":
		return a, nil
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
	for i := range n {
		dst = append(dst, a.element(a.raw[(at+i*step)*a.size:]))
	}
	return dst
}

func (a *npy) element(b []byte) float64 {
	switch {
	case a.kind == 'f' && a.size == 8:
		return math.Float64frombits(a.order.Uint64(b))
	case a.kind == 'f' && a.size == 4:
		return float64(math.Float32frombits(a.order.Uint32(b)))
	case a.kind == 'f':
		return half(a.order.Uint16(b))
	case a.size == 8 && a.kind == 'i':
		return float64(int64(a.order.Uint64(b)))
	case a.size == 8:
		return float64(a.order.Uint64(b))
	case a.size == 4 && a.kind == 'i':
		return float64(int32(a.order.Uint32(b)))
	case a.size == 4:
		return float64(a.order.Uint32(b))
	case a.size == 2 && a.kind == 'i':
		return float64(int16(a.order.Uint16(b)))
	case a.size == 2:
		return float64(a.order.Uint16(b))
	case a.kind == 'i':
		return float64(int8(b[0]))
	}
	return float64(b[0])
}

// decodeNpyStats reads [layers, experts] or [windows, layers, experts].
func decodeNpyStats(b *bufio.Reader, lim *limits) (Stats, error) {
	a, err := readNpy(b, lim)
	if err != nil {
		return Stats{}, err
	}
	if len(a.shape) != 2 && len(a.shape) != 3 {
		return Stats{}, errorf(placement.ErrShape, "npy", -1, -1, "shape %s: (layers, experts) or (windows, layers, experts) is expected", shapeText(a.shape))
	}
	t := table{lim: lim, field: "npy"}
	layers := a.shape[len(a.shape)-2]
	windows := 1
	if len(a.shape) == 3 {
		windows = a.shape[0]
	}
	var row []float64
	for r := range windows * layers {
		row = a.row(row[:0], r)
		if err := t.add(row); err != nil {
			return Stats{}, err
		}
		if (r+1)%layers == 0 {
			if err := t.end(); err != nil {
				return Stats{}, err
			}
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
