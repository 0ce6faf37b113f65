package problem

import (
	"fmt"
	"math"

	"golang.org/x/exp/constraints"

	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// kind says what the cells of a list or of a matrix are.
type kind struct {
	what    string // "a number ≥ 0"
	least   float64
	most    float64 // 0 = any finite number
	whole   bool
	columns int    // at most
	column  string // "experts"
}

var (
	loadKind  = kind{what: "a number ≥ 0", columns: placement.MaxExperts, column: "experts"}
	SpeedKind = kind{what: "a number ≥ 0", columns: placement.MaxGPUs, column: "GPUs"}
	SlotKind  = kind{what: "an expert's number or -1", least: -1, most: placement.MaxExperts - 1, whole: true, columns: placement.MaxSlots, column: "slots"}
	CountKind = kind{what: "an integer ≥ 0", most: 1 << 53, whole: true, columns: placement.MaxExperts, column: "experts"}
	WidthKind = kind{what: "an integer ≥ 0", most: placement.MaxSlots, whole: true, columns: placement.MaxGPUs, column: "GPUs"}
)

// readRow reads a list of numbers onto cells; the opening bracket is taken.
func readRow(s *wire.Scanner, k *kind, field string, layer int, cells []float64) ([]float64, error) {
	from := len(cells)
	for first := true; !s.Take(']'); first = false {
		if !first && !s.Take(',') {
			return nil, s.Wanted(`"," or "]"`, field, layer, len(cells)-from)
		}
		s.Peek()
		n := len(cells)
		cells = s.Small(cells, from+k.columns)
		for i, x := range cells[n:] {
			if err := k.check(x, field, layer, n+i-from); err != nil {
				return nil, err
			}
		}
		if n = len(cells) - from; n == k.columns {
			return nil, wire.Bad(placement.ErrShape, field, layer, -1, "more than %d %s are not supported", k.columns, k.column)
		}
		x, err := s.Number(k.what, field, layer, n)
		if err == nil {
			err = k.check(x, field, layer, n)
		}
		if err != nil {
			return nil, err
		}
		cells = append(cells, x)
	}
	return cells, nil
}

// check refuses what is no cell of the kind.
func (k *kind) check(x float64, field string, layer, index int) error {
	switch {
	case k.whole && x != math.Trunc(x):
		return wire.Bad(placement.ErrValue, field, layer, index, "%v is not an integer: %s is needed", x, k.what)
	case x < k.least:
		return wire.Bad(placement.ErrValue, field, layer, index, "%s is negative: %s is needed", wire.Plain(x), k.what)
	case k.most > 0 && x > k.most:
		return wire.Bad(placement.ErrValue, field, layer, index, "%s: at most %s is supported", wire.Plain(x), wire.Plain(k.most))
	}
	return nil
}

// ReadVector reads a list of numbers.
func ReadVector(s *wire.Scanner, k *kind, field string) ([]float64, error) {
	if !s.Take('[') {
		return nil, s.Wanted("a list", field, -1, -1)
	}
	return readRow(s, k, field, -1, []float64{})
}

// readMatrix reads [layers][columns]; the outer bracket is taken and, where inRow is
// set, that of the first layer too. room is how many cells are still allowed.
func readMatrix(s *wire.Scanner, k *kind, field string, inRow bool, room int) ([][]float64, error) {
	var cells []float64
	layers, width := 0, 0
	for ; inRow || !s.Take(']'); layers++ {
		if layers > 0 && !s.Take(',') {
			return nil, s.Wanted(`"," or "]"`, field, layers, -1)
		}
		if layers == placement.MaxLayers {
			return nil, wire.Bad(placement.ErrShape, field, -1, -1, "more than %d layers are not supported", placement.MaxLayers)
		}
		if !inRow && !s.Take('[') {
			return nil, s.Wanted(fmt.Sprintf("a list of %s", k.column), field, layers, -1)
		}
		inRow = false
		had := len(cells)
		var err error
		if cells, err = readRow(s, k, field, layers, cells); err != nil {
			return nil, err
		}
		switch n := len(cells) - had; {
		case n == 0:
			return nil, wire.Bad(placement.ErrShape, field, layers, -1, "no %s", k.column)
		case layers == 0:
			width = n
		case n != width:
			return nil, wire.Bad(placement.ErrShape, field, layers, -1, "%d %s, but layer 0 has %d", n, k.column, width)
		}
		if len(cells) > room {
			return nil, wire.Bad(placement.ErrShape, field, layers, -1, "more than %d numbers are not supported", placement.MaxCells)
		}
	}
	if layers == 0 {
		return nil, wire.Bad(placement.ErrShape, field, -1, -1, "no layers")
	}
	rows := make([][]float64, layers)
	for l := range rows {
		rows[l] = cells[l*width : (l+1)*width : (l+1)*width]
	}
	return rows, nil
}

// ReadTable reads a matrix with its opening bracket.
func ReadTable(s *wire.Scanner, k *kind, field string) ([][]float64, error) {
	if !s.Take('[') {
		return nil, s.Wanted("a list of layers", field, -1, -1)
	}
	return readMatrix(s, k, field, false, placement.MaxCells)
}

// readWindows reads [layers][experts] or [windows][layers][experts].
func readWindows(s *wire.Scanner, field string) ([]placement.Loads, error) {
	if !s.Take('[') {
		return nil, s.Wanted("a list of layers", field, -1, -1)
	}
	if s.Peek() == ']' {
		return nil, wire.Bad(placement.ErrShape, field, -1, -1, "no layers")
	}
	if !s.Take('[') {
		return nil, s.Wanted("a list of experts", field, 0, -1)
	}
	if s.Peek() != '[' {
		rows, err := readMatrix(s, &loadKind, field, true, placement.MaxCells)
		return []placement.Loads{rows}, err
	}
	var out []placement.Loads
	room := placement.MaxCells
	for w := 0; ; w++ {
		at := fmt.Sprintf("%s, window %d", field, w)
		rows, err := readMatrix(s, &loadKind, at, false, room)
		if err != nil {
			return nil, err
		}
		if w > 0 && (len(rows) != len(out[0]) || len(rows[0]) != out[0].Experts()) {
			return nil, wire.Bad(placement.ErrShape, at, -1, -1, "%d layers of %d experts, but window 0 has %d of %d", len(rows), len(rows[0]), len(out[0]), out[0].Experts())
		}
		room -= len(rows) * len(rows[0])
		out = append(out, rows)
		if s.Take(']') {
			return out, nil
		}
		if !s.Take(',') || !s.Take('[') {
			return nil, s.Wanted(`"," and a list of layers, or "]"`, at, -1, -1)
		}
	}
}

// Ints converts the cells of a whole kind.
func Ints[T constraints.Integer](rows [][]float64) [][]T {
	if len(rows) == 0 {
		return nil
	}
	width := len(rows[0])
	cells := make([]T, len(rows)*width)
	out := make([][]T, len(rows))
	for l, row := range rows {
		out[l] = cells[l*width : (l+1)*width : (l+1)*width]
		for i, x := range row {
			out[l][i] = T(x)
		}
	}
	return out
}
