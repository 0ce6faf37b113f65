package problem

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/moelb/moelb/internal/wire"
)

// BenchmarkMatrix reads a problem's loads.
func BenchmarkMatrix(b *testing.B) {
	text := []byte("[")
	for l := range 58 {
		if l > 0 {
			text = append(text, ',')
		}
		text = append(text, '[')
		for e := range 256 {
			if e > 0 {
				text = append(text, ", "...)
			}
			text = fmt.Append(text, (l*7919+e*104729)%100000)
		}
		text = append(text, ']')
	}
	text = append(text, ']')
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readWindows(wire.NewScanner(bytes.NewReader(text)), "loads"); err != nil {
			b.Fatal(err)
		}
	}
}
