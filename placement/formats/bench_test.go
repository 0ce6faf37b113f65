package formats

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
)

// countsText is [layers][experts] of numbers of up to five digits.
func countsText(layers, experts int) []byte {
	b := []byte{'['}
	for l := range layers {
		if l > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		for e := range experts {
			if e > 0 {
				b = append(b, ", "...)
			}
			b = strconv.AppendInt(b, int64(l*7919+e*104729)%100000, 10)
		}
		b = append(b, ']')
	}
	return append(b, ']')
}

func BenchmarkDecodeStats(b *testing.B) {
	for _, windows := range []int{1, 100} {
		text := countsText(58, 256)
		if windows > 1 {
			text = append(append([]byte{'['}, bytes.Repeat(append(text, ','), windows-1)...), text...)
			text = append(text, ']')
		}
		b.Run(fmt.Sprintf("json/windows=%d/layers=58/experts=256", windows), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := DecodeStats(bytes.NewReader(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPlacement(b *testing.B) {
	p := placement.Trivial(58, 256, 288, 32)
	for _, f := range Formats() {
		var text bytes.Buffer
		if err := EncodePlacement(&text, f, &p, EncodeOptions{}); err != nil {
			b.Fatal(err)
		}
		b.Run(string(f)+"/write/layers=58/slots=288", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := EncodePlacement(&bytes.Buffer{}, f, &p, EncodeOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(string(f)+"/read/layers=58/slots=288", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodePlacement(bytes.NewReader(text.Bytes()), 32); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRefused reads what is refused near its start: its time does not grow
// with the input.
func BenchmarkRefused(b *testing.B) {
	for _, n := range []int{1 << 16, 1 << 20} {
		for name, text := range map[string]string{"objects": strings.Repeat(`{"a":`, n), "arrays": strings.Repeat("[", n), "digits": "[[" + strings.Repeat("1", n)} {
			b.Run(fmt.Sprintf("%s=%d", name, n), func(b *testing.B) {
				for b.Loop() {
					if _, err := DecodeStats(strings.NewReader(text)); err == nil {
						b.Fatal("it was accepted")
					}
				}
			})
		}
	}
}
