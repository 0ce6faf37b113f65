package main

import (
	"fmt"
	"math"

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
	speedKind = kind{what: "a number ≥ 0", columns: placement.MaxGPUs, column: "GPUs"}
	slotKind  = kind{what: "an expert's number or -1", least: -1, most: placement.MaxExperts - 1, whole: true, columns: placement.MaxSlots, column: "slots"}
	countKind = kind{what: "an integer ≥ 0", most: 1 << 53, whole: true, columns: placement.MaxExperts, column: "experts"}
	widthKind = kind{what: "an integer ≥ 0", most: placement.MaxSlots, whole: true, columns: placement.MaxGPUs, column: "GPUs"}
)

// list reads a list of numbers onto cells; the opening bracket is taken.
func (s *scanner) list(k *kind, field string, layer int, cells []float64) ([]float64, error) {
	for i := 0; !s.take(']'); i++ {
		if i > 0 && !s.take(',') {
			return nil, s.wanted(`"," or "]"`, field, layer, i)
		}
		if i == k.columns {
			return nil, bad(placement.ErrShape, field, layer, -1, "more than %d %s are not supported", k.columns, k.column)
		}
		x, err := s.number(k.what, field, layer, i)
		switch {
		case err != nil:
			return nil, err
		case k.whole && x != math.Trunc(x):
			return nil, bad(placement.ErrValue, field, layer, i, "%v is not an integer: %s is needed", x, k.what)
		case x < k.least:
			return nil, bad(placement.ErrValue, field, layer, i, "%s is negative: %s is needed", plain(x), k.what)
		case k.most > 0 && x > k.most:
			return nil, bad(placement.ErrValue, field, layer, i, "%s: at most %s is supported", plain(x), plain(k.most))
		}
		cells = append(cells, x)
	}
	return cells, nil
}

// vector reads a list of numbers.
func (s *scanner) vector(k *kind, field string) ([]float64, error) {
	if !s.take('[') {
		return nil, s.wanted("a list", field, -1, -1)
	}
	return s.list(k, field, -1, []float64{})
}

// matrix reads [layers][columns]; the outer bracket is taken and, where inRow is
// set, that of the first layer too. room is how many cells are still allowed.
func (s *scanner) matrix(k *kind, field string, inRow bool, room int) ([][]float64, error) {
	var cells []float64
	layers, width := 0, 0
	for ; inRow || !s.take(']'); layers++ {
		if layers > 0 && !s.take(',') {
			return nil, s.wanted(`"," or "]"`, field, layers, -1)
		}
		if layers == placement.MaxLayers {
			return nil, bad(placement.ErrShape, field, -1, -1, "more than %d layers are not supported", placement.MaxLayers)
		}
		if !inRow && !s.take('[') {
			return nil, s.wanted(fmt.Sprintf("a list of %s", k.column), field, layers, -1)
		}
		inRow = false
		had := len(cells)
		var err error
		if cells, err = s.list(k, field, layers, cells); err != nil {
			return nil, err
		}
		switch n := len(cells) - had; {
		case n == 0:
			return nil, bad(placement.ErrShape, field, layers, -1, "no %s", k.column)
		case layers == 0:
			width = n
		case n != width:
			return nil, bad(placement.ErrShape, field, layers, -1, "%d %s, but layer 0 has %d", n, k.column, width)
		}
		if len(cells) > room {
			return nil, bad(placement.ErrShape, field, layers, -1, "more than %d numbers are not supported", placement.MaxCells)
		}
	}
	if layers == 0 {
		return nil, bad(placement.ErrShape, field, -1, -1, "no layers")
	}
	rows := make([][]float64, layers)
	for l := range rows {
		rows[l] = cells[l*width : (l+1)*width : (l+1)*width]
	}
	return rows, nil
}

// table reads a matrix with its opening bracket.
func (s *scanner) table(k *kind, field string) ([][]float64, error) {
	if !s.take('[') {
		return nil, s.wanted("a list of layers", field, -1, -1)
	}
	return s.matrix(k, field, false, placement.MaxCells)
}

// windows reads [layers][experts] or [windows][layers][experts].
func (s *scanner) windows(field string) ([]placement.Loads, error) {
	if !s.take('[') {
		return nil, s.wanted("a list of layers", field, -1, -1)
	}
	if s.peek() == ']' {
		return nil, bad(placement.ErrShape, field, -1, -1, "no layers")
	}
	if !s.take('[') {
		return nil, s.wanted("a list of experts", field, 0, -1)
	}
	if s.peek() != '[' {
		rows, err := s.matrix(&loadKind, field, true, placement.MaxCells)
		return []placement.Loads{rows}, err
	}
	var out []placement.Loads
	room := placement.MaxCells
	for w := 0; ; w++ {
		at := fmt.Sprintf("%s, window %d", field, w)
		rows, err := s.matrix(&loadKind, at, false, room)
		if err != nil {
			return nil, err
		}
		if w > 0 && (len(rows) != len(out[0]) || len(rows[0]) != out[0].Experts()) {
			return nil, bad(placement.ErrShape, at, -1, -1, "%d layers of %d experts, but window 0 has %d of %d", len(rows), len(rows[0]), len(out[0]), out[0].Experts())
		}
		room -= len(rows) * len(rows[0])
		out = append(out, rows)
		if s.take(']') {
			return out, nil
		}
		if !s.take(',') || !s.take('[') {
			return nil, s.wanted(`"," and a list of layers, or "]"`, at, -1, -1)
		}
	}
}

// ints converts the cells of a whole kind.
func ints[T int | int64](rows [][]float64) [][]T {
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
