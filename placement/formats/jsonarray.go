package formats

import (
	"math"
	"slices"

	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// notNumber says what stands where a number should, and where.
func (s *scanner) notNumber(field string, layer, index int) error {
	what := s.found()
	switch s.Byte() {
	case '"':
		text, err := s.str()
		if err != nil {
			return err
		}
		what = "the string " + guard.Quote(text)
	case '[':
		what = "an array"
	case '{':
		what = "an object"
	case 'n', 't', 'f', 'N', 'I':
		word := []byte{}
		for c := s.Byte(); (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') && len(word) < 10; c = s.Byte() {
			word = append(word, c)
			s.Skip()
		}
		what = string(word)
	default:
		return s.errorf("%s: expected a number, found %s", place(field, layer, index), what)
	}
	return guard.Errorf(placement.ErrValue, field, layer, index, "%s is not a number", what)
}

// open takes the bracket before an array of field.
func (s *scanner) open(field string, layer int) error {
	if s.Peek() != '[' {
		return s.errorf("%s: expected '[', found %s", place(field, layer, -1), s.found())
	}
	s.Skip()
	return nil
}

// numbers reads the rest of [n, n, ...], whose bracket has been taken: at most
// max numbers, valid until the next call.
func (s *scanner) numbers(field string, layer, max int) ([]float64, error) {
	row := s.row[:0]
	defer func() { s.row = row }()
	for first := true; ; first = false {
		ok, err := s.more(first, ']')
		if err != nil || !ok {
			return row, err
		}
		row = s.Small(row, max)
		if len(row) >= max {
			return nil, guard.Errorf(placement.ErrShape, field, layer, -1, "more than %d numbers, the most that is supported", max)
		}
		v, err := s.number(field, layer, len(row))
		if err != nil {
			return nil, err
		}
		row = append(row, v)
	}
}

// number reads one number; its place is for errors.
func (s *scanner) number(field string, layer, index int) (float64, error) {
	if !wire.IsDigits(s.Peek()) {
		return 0, s.notNumber(field, layer, index)
	}
	if v, ok := s.Count(); ok {
		return v, nil
	}
	tok, err := s.numberToken()
	if err != nil {
		return 0, err
	}
	v, bad := parseNumber(tok)
	if bad != "" {
		return 0, guard.Errorf(placement.ErrValue, field, layer, index, "%s", bad)
	}
	return v, nil
}

// integer reads a number that must be whole and fit 31 bits and a sign.
func (s *scanner) integer(field string, layer, index int) (int, error) {
	v, err := s.number(field, layer, index)
	if err != nil {
		return 0, err
	}
	return whole(v, field, layer, index)
}

func whole(v float64, field string, layer, index int) (int, error) {
	if v != math.Trunc(v) || math.Abs(v) > math.MaxInt32 {
		return 0, guard.Errorf(placement.ErrValue, field, layer, index, "%v is not a whole number of at most 31 bits", v)
	}
	return int(v), nil
}

// integers reads [n, n, ...] with its bracket, at most max numbers.
func (s *scanner) integers(field string, layer, max int) ([]int, error) {
	if err := s.open(field, layer); err != nil {
		return nil, err
	}
	return s.restIntegers(field, layer, max)
}

// restIntegers reads the rest of [n, n, ...], whose bracket has been taken.
func (s *scanner) restIntegers(field string, layer, max int) ([]int, error) {
	row, err := s.numbers(field, layer, max)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(row))
	for i, v := range row {
		if out[i], err = whole(v, field, layer, i); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// integerRows reads [rows][n], at most max numbers a row.
func (s *scanner) integerRows(field string, max int) ([][]int, error) {
	rows, cells := [][]int{}, 0
	err := s.array(field, -1, s.lim.Layers, func(l int) error {
		row, err := s.integers(field, l, max)
		rows = append(rows, row)
		cells += len(row) + 8
		return tooMany(s.lim, field, cells, err)
	})
	return rows, err
}

// integerCube reads [layers][rows][n], at most maxRows rows of at most max numbers.
func (s *scanner) integerCube(field string, maxRows, max int) ([][][]int, error) {
	cube, cells := [][][]int{}, 0
	err := s.array(field, -1, s.lim.Layers, func(l int) error {
		rows := [][]int{}
		err := s.array(field, l, maxRows, func(int) error {
			row, err := s.integers(field, l, max)
			rows = append(rows, row)
			cells += len(row) + 8
			return tooMany(s.lim, field, cells, err)
		})
		cube = append(cube, rows)
		return err
	})
	return cube, err
}

// tooMany bounds what a nest of arrays takes; a row counts as 8 numbers besides
// those it holds.
func tooMany(lim *guard.Limits, field string, cells int, err error) error {
	if err == nil && cells > lim.Cells {
		return guard.Errorf(placement.ErrShape, field, -1, -1, "at most %d numbers are supported", lim.Cells)
	}
	return err
}

// array calls each for every element of an array, at most max of them.
func (s *scanner) array(field string, layer, max int, each func(i int) error) error {
	if err := s.open(field, layer); err != nil {
		return err
	}
	for i := 0; ; i++ {
		ok, err := s.more(i == 0, ']')
		if err != nil || !ok {
			return err
		}
		if i >= max {
			return guard.Errorf(placement.ErrShape, field, layer, -1, "more than %d entries, the most that is supported", max)
		}
		if err := each(i); err != nil {
			return err
		}
	}
}

// maxKeys bounds the keys of one object, which are remembered to find one twice.
const maxKeys = 64

// object calls member for every key of an object; member reads the value.
func (s *scanner) object(member func(key string) error) error {
	if err := s.take('{'); err != nil {
		return err
	}
	var seen []string
	for first := true; ; first = false {
		ok, err := s.more(first, '}')
		if err != nil || !ok {
			return err
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if slices.Contains(seen, key) {
			return s.errorf("the key %s stands twice in one object", guard.Quote(key))
		}
		if seen = append(seen, key); len(seen) > maxKeys {
			return s.errorf("more than %d keys in one object", maxKeys)
		}
		if err := s.take(':'); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
	}
}

// skip reads any value and forgets it.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.errorf("nested more than %d deep", maxDepth)
	}
	switch c := s.Peek(); {
	case c == '"':
		_, err := s.str()
		return err
	case c == '[' || c == '{':
		s.Skip()
		closing := c + 2 // '[' + 2 = ']', '{' + 2 = '}'
		for first := true; ; first = false {
			ok, err := s.more(first, closing)
			if err != nil || !ok {
				return err
			}
			if c == '{' {
				if _, err := s.str(); err != nil {
					return err
				}
				if err := s.take(':'); err != nil {
					return err
				}
			}
			if err := s.skip(depth + 1); err != nil {
				return err
			}
		}
	case wire.IsDigits(c):
		tok, err := s.numberToken()
		if err != nil {
			return err
		}
		if !wire.IsNumber(tok) {
			return s.errorf("%s is not a number", guard.Quote(string(tok)))
		}
		return nil
	case c == 't' || c == 'f' || c == 'n':
		word := map[byte]string{'t': "true", 'f': "false", 'n': "null"}[c]
		for i := range len(word) {
			if s.Byte() != word[i] {
				return s.errorf("expected %s, found %s", word, s.found())
			}
			s.Skip()
		}
		return nil
	}
	return s.errorf("expected a value, found %s", s.found())
}

// window reads the rest of [layers][experts], whose bracket has been taken, as
// one more window of t. inRow: the first row's bracket has been taken too.
func (s *scanner) window(t *table, inRow bool) error {
	for first := true; ; first = false {
		if !first || !inRow {
			ok, err := s.more(first, ']')
			if err != nil {
				return err
			}
			if !ok {
				return t.end()
			}
			if err := s.open(t.name(), len(t.rows)); err != nil {
				return err
			}
		}
		row, err := s.numbers(t.name(), len(t.rows), s.lim.Experts)
		if err != nil {
			return err
		}
		if err := t.add(row); err != nil {
			return err
		}
	}
}

// windows reads [layers][experts] or [windows][layers][experts].
func (s *scanner) windows(t *table) error {
	if err := s.open(t.name(), -1); err != nil {
		return err
	}
	if s.Peek() == ']' {
		return guard.Errorf(placement.ErrShape, t.name(), -1, -1, "no layers")
	}
	if err := s.open(t.name(), 0); err != nil {
		return err
	}
	if s.Peek() != '[' {
		return s.window(t, true)
	}
	return s.restWindows(t)
}

// restWindows reads the rest of [windows][layers][experts], of which two brackets
// have been taken.
func (s *scanner) restWindows(t *table) error {
	if err := s.window(t, false); err != nil {
		return err
	}
	for {
		ok, err := s.more(false, ']')
		if err != nil || !ok {
			return err
		}
		if err := s.open(t.name(), -1); err != nil {
			return err
		}
		if err := s.window(t, false); err != nil {
			return err
		}
	}
}
