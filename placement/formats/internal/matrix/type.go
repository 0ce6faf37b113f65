// Package matrix makes numbers of the elements of arrays as NumPy, PyTorch and
// safetensors lay them out in memory.
package matrix

import (
	"encoding/binary"
	"math"
	"strings"
)

// Type is the type of an array's elements. The zero value is none.
type Type struct {
	Kind byte // i, u, f as NumPy has them, b = boolean, h = bfloat16
	Size int  // bytes an element
	big  bool // the byte order
}

// NumPy is the type that a descr names, such as "<i4".
func NumPy(descr string) (Type, bool) {
	if len(descr) != 3 || !strings.Contains("<>|=", descr[:1]) {
		return Type{}, false
	}
	switch descr[1:] {
	case "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8":
		return Type{descr[1], int(descr[2] - '0'), descr[0] == '>'}, true
	}
	return Type{}, false
}

// Torch is the type of a storage of PyTorch, such as "IntStorage".
func Torch(class string) (Type, bool) {
	t, ok := torch[class]
	return t, ok
}

var torch = map[string]Type{
	"DoubleStorage": {Kind: 'f', Size: 8}, "FloatStorage": {Kind: 'f', Size: 4}, "HalfStorage": {Kind: 'f', Size: 2}, "BFloat16Storage": {Kind: 'h', Size: 2},
	"LongStorage": {Kind: 'i', Size: 8}, "IntStorage": {Kind: 'i', Size: 4}, "ShortStorage": {Kind: 'i', Size: 2}, "CharStorage": {Kind: 'i', Size: 1},
	"ByteStorage": {Kind: 'u', Size: 1}, "BoolStorage": {Kind: 'b', Size: 1},
}

// Safetensors is the type that a dtype names, of those that counts may have.
func Safetensors(dtype string) (Type, bool) {
	switch dtype {
	case "I64":
		return Type{Kind: 'i', Size: 8}, true
	case "I32":
		return Type{Kind: 'i', Size: 4}, true
	case "F64":
		return Type{Kind: 'f', Size: 8}, true
	case "F32":
		return Type{Kind: 'f', Size: 4}, true
	}
	return Type{}, false
}

// Read makes numbers of raw, one every step bytes, the last of them whole.
func (t Type) Read(dst []float64, raw []byte, step int) {
	switch {
	case t == Type{Kind: 'i', Size: 4}:
		for i := range dst {
			dst[i] = float64(int32(binary.LittleEndian.Uint32(raw[i*step:])))
		}
	case t == Type{Kind: 'i', Size: 8}:
		for i := range dst {
			dst[i] = float64(int64(binary.LittleEndian.Uint64(raw[i*step:])))
		}
	default:
		for i := range dst {
			dst[i] = t.number(raw[i*step:])
		}
	}
}

// number is the element that b starts with.
func (t Type) number(b []byte) float64 {
	var order binary.ByteOrder = binary.LittleEndian
	if t.big {
		order = binary.BigEndian
	}
	switch t.Size {
	case 8:
		x := order.Uint64(b)
		switch t.Kind {
		case 'f':
			return math.Float64frombits(x)
		case 'i':
			return float64(int64(x))
		}
		return float64(x)
	case 4:
		x := order.Uint32(b)
		switch t.Kind {
		case 'f':
			return float64(math.Float32frombits(x))
		case 'i':
			return float64(int32(x))
		}
		return float64(x)
	case 2:
		x := order.Uint16(b)
		switch t.Kind {
		case 'f':
			return half(x)
		case 'h':
			return float64(math.Float32frombits(uint32(x) << 16))
		case 'i':
			return float64(int16(x))
		}
		return float64(x)
	}
	if t.Kind == 'i' {
		return float64(int8(b[0]))
	}
	return float64(b[0])
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
