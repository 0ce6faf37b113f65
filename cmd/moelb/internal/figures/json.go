package figures

import (
	"math"

	"golang.org/x/exp/constraints"

	"github.com/moelb/moelb/internal/wire"
)

func Ints[T constraints.Integer](e *wire.Encoder, row []T) {
	wire.List(e, row, func(n T) { e.Int(int64(n)) })
}

func Floats(e *wire.Encoder, row []float64) { wire.List(e, row, e.Float) }

// Lines writes one layer a line, so that a person or diff can find one.
func Lines[T any](e *wire.Encoder, items []T, item func(T)) {
	e.Raw("[\n")
	for i, x := range items {
		if i > 0 {
			e.Raw(",\n")
		}
		item(x)
	}
	e.Raw("\n]")
}

func IntRows[T constraints.Integer](e *wire.Encoder, rows [][]T) {
	Lines(e, rows, func(row []T) { Ints(e, row) })
}

// Number writes a figure, null where there is none.
func Number(e *wire.Encoder, x float64) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		e.Raw("null")
		return
	}
	e.Float(x)
}
