package ledger

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// Writer appends figures to a snapshot: a magic, figures, and the CRC-32 of both.
type Writer struct {
	b     []byte
	start int
}

// NewWriter starts a snapshot behind what dst holds.
func NewWriter(dst []byte, magic string) *Writer { return &Writer{append(dst, magic...), len(dst)} }

// Int appends whole numbers, small ones in a byte or two.
func (w *Writer) Int(xs ...int64) {
	for _, x := range xs {
		w.b = binary.AppendVarint(w.b, x)
	}
}

// Uint appends a number of 64 bits.
func (w *Writer) Uint(x uint64) { w.b = binary.AppendUvarint(w.b, x) }

// Float appends numbers bit by bit.
func (w *Writer) Float(xs ...float64) {
	for _, x := range xs {
		w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(x))
	}
}

// Bool appends a truth.
func (w *Writer) Bool(x bool) {
	c := byte(0)
	if x {
		c = 1
	}
	w.b = append(w.b, c)
}

// Sealed returns the snapshot, with what dst held before it.
func (w *Writer) Sealed() []byte {
	return binary.LittleEndian.AppendUint32(w.b, crc32.ChecksumIEEE(w.b[w.start:]))
}

// Reader reads figures. Once one was missing or out of its range it is bad, and
// all that follow are 0; so a caller may check once, but before it allocates.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader returns a reader of the figures of a snapshot, and what is wrong with
// it as a whole; "" = nothing.
func NewReader(data []byte, magic string) (r *Reader, wrong string) {
	n := len(data) - 4
	if n < len(magic) || string(data[:len(magic)]) != magic {
		return nil, "it does not start like one"
	}
	if crc32.ChecksumIEEE(data[:n]) != binary.LittleEndian.Uint32(data[n:]) {
		return nil, "its checksum is wrong"
	}
	return &Reader{b: data[len(magic):n]}, ""
}

// Bad reports whether a figure was missing or out of its range.
func (r *Reader) Bad() bool { return r.bad }

// Fail makes the reader bad unless ok.
func (r *Reader) Fail(ok bool) { r.bad = r.bad || !ok }

// Left returns how many bytes are left.
func (r *Reader) Left() int { return len(r.b) }

// Int reads a whole number in [least, most].
func (r *Reader) Int(least, most int64) int64 {
	if r.bad {
		return 0
	}
	x, n := binary.Varint(r.b)
	if n <= 0 || x < least || x > most {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return x
}

// Uint reads a number of 64 bits.
func (r *Reader) Uint() uint64 {
	if r.bad {
		return 0
	}
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return x
}

// Length reads the length of a list whose items take a byte each at least: it is
// never beyond what is left to read.
func (r *Reader) Length(most int) int {
	n := int(r.Int(0, int64(min(most, len(r.b)))))
	if n > len(r.b) {
		r.bad = true
		return 0
	}
	return n
}

// Float reads a finite number in [least, most].
func (r *Reader) Float(least, most float64) float64 {
	if r.bad || len(r.b) < 8 {
		r.bad = true
		return 0
	}
	x := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	if !(x >= least && x <= most) {
		r.bad = true
		return 0
	}
	return x
}

// Bool reads a truth.
func (r *Reader) Bool() bool {
	if r.bad || len(r.b) == 0 || r.b[0] > 1 {
		r.bad = true
		return false
	}
	x := r.b[0] == 1
	r.b = r.b[1:]
	return x
}
