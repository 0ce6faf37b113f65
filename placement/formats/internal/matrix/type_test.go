package matrix

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

// TestRead: what encoding/binary wrote is read back, in either byte order, close
// together or apart.
func TestRead(t *testing.T) {
	for _, c := range []struct {
		descr string
		value any
		want  []float64
	}{
		{"i1", []int8{-128, 0, 127}, []float64{-128, 0, 127}}, {"i2", []int16{-32768, 1, 32767}, []float64{-32768, 1, 32767}},
		{"i4", []int32{math.MinInt32, -1, math.MaxInt32}, []float64{math.MinInt32, -1, math.MaxInt32}}, {"i8", []int64{math.MinInt64, -1, 1 << 53}, []float64{math.MinInt64, -1, 1 << 53}},
		{"u1", []uint8{0, 128, 255}, []float64{0, 128, 255}}, {"u2", []uint16{0, 32768, 65535}, []float64{0, 32768, 65535}}, {"u4", []uint32{0, 1 << 31, math.MaxUint32}, []float64{0, 1 << 31, math.MaxUint32}},
		{"u8", []uint64{0, 1 << 63}, []float64{0, 1 << 63}}, {"f4", []float32{-1.5, 0x1p-149}, []float64{-1.5, 0x1p-149}}, {"f8", []float64{-math.Pi, math.Inf(1)}, []float64{-math.Pi, math.Inf(1)}},
		{"f2", []uint16{0x3c00, 0xc000, 0x0001, 0x7bff, 0xfc00}, []float64{1, -2, 0x1p-24, 65504, math.Inf(-1)}}, {"b1", []uint8{0, 1}, []float64{0, 1}},
	} {
		for order, write := range map[string]binary.ByteOrder{"<": binary.LittleEndian, ">": binary.BigEndian} {
			typ, ok := NumPy(order + c.descr)
			if !ok || typ.Size != int(c.descr[1]-'0') {
				t.Fatalf("%s%s: %+v, %v", order, c.descr, typ, ok)
			}
			var b bytes.Buffer
			binary.Write(&b, write, c.value)
			raw, step := b.Bytes(), typ.Size+3
			got := make([]float64, len(c.want))
			typ.Read(got, raw, typ.Size)
			apart := make([]byte, step*len(got))
			for i := range got {
				copy(apart[i*step:], raw[i*typ.Size:][:typ.Size])
			}
			again := make([]float64, len(got))
			typ.Read(again, apart[:step*(len(got)-1)+typ.Size], step)
			for i, want := range c.want {
				if got[i] != want || again[i] != want {
					t.Errorf("%s%s: %v and %v, want %v", order, c.descr, got[i], again[i], want)
				}
			}
		}
	}
	if typ, _ := NumPy("<f2"); !math.IsNaN(typ.number([]byte{1, 0x7c})) {
		t.Error("a half that is no number")
	}
}

// TestNames: the same types have other names in other places.
func TestNames(t *testing.T) {
	for class, descr := range map[string]string{"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1", "BoolStorage": "|b1"} {
		a, ok := Torch(class)
		if b, known := NumPy(descr); !ok || !known || a != b {
			t.Errorf("%s is %+v, %s %+v", class, a, descr, b)
		}
	}
	for dtype, class := range map[string]string{"I64": "LongStorage", "I32": "IntStorage", "F64": "DoubleStorage", "F32": "FloatStorage"} {
		a, ok := Safetensors(dtype)
		if b, _ := Torch(class); !ok || a != b {
			t.Errorf("%s is %+v, %s %+v", dtype, a, class, b)
		}
	}
	for _, bad := range []string{"", "i4", "<i3", "<c8", "<i44", "xi4", "<U4"} {
		if _, ok := NumPy(bad); ok {
			t.Errorf("%q is a type", bad)
		}
	}
	half, _ := Torch("BFloat16Storage")
	if got := half.number([]byte{0xc0, 0x3f}); got != 1.5 {
		t.Errorf("bfloat16: %v", got)
	}
	if _, ok := Torch("ComplexFloatStorage"); ok {
		t.Error("complex numbers")
	}
	if _, ok := Safetensors("BF16"); ok {
		t.Error("BF16")
	}
}
