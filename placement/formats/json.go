package formats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/moelb/moelb/placement"
)

// scanner reads JSON text strictly and as a stream: what it holds is one buffer
// and one number or string. encoding/json would hold the text as a whole and
// several times over, and does not say where in an array a bad value stands.
type scanner struct {
	r     io.Reader // nil = buf is all there is
	buf   []byte
	pos   int   // next byte in buf
	base  int64 // bytes before buf
	line  int   // lines before pos
	start int64 // where the line began
	lim   *limits
	fail  error // a failed read
	row   []float64
	tok   []byte
}

func newScanner(r io.Reader, lim *limits) *scanner {
	return &scanner{r: r, buf: make([]byte, 0, lim.buffer), lim: lim}
}

// maxDepth bounds the nesting of values that are skipped.
const maxDepth = 64

// maxNumber and maxString bound a token's bytes.
const (
	maxNumber = 512
	maxString = 4096
)

// peek returns the next byte, 0 at the end of the input or where reading fails.
func (s *scanner) peek() byte {
	if s.pos < len(s.buf) || s.fill() {
		return s.buf[s.pos]
	}
	return 0
}

func (s *scanner) fill() bool {
	if s.r == nil || s.fail != nil {
		return false
	}
	s.base += int64(len(s.buf))
	s.buf = s.buf[:0]
	s.pos = 0
	for range 100 {
		n, err := s.r.Read(s.buf[:cap(s.buf)])
		s.buf = s.buf[:n]
		s.fail = err
		if n > 0 || err != nil {
			return n > 0
		}
	}
	s.fail = io.ErrNoProgress
	return false
}

// next skips white space and returns the byte after it without taking it.
func (s *scanner) next() byte {
	for {
		c := s.peek()
		switch c {
		case '\n':
			s.line++
			s.start = s.base + int64(s.pos) + 1
		case ' ', '\t', '\r':
		default:
			return c
		}
		s.pos++
	}
}

func (s *scanner) atEnd() bool { return s.peek() == 0 && s.pos >= len(s.buf) }

// errorf reports malformed text, or the failed read behind it, with its place.
func (s *scanner) errorf(format string, args ...any) error {
	if s.fail != nil && s.fail != io.EOF && s.pos >= len(s.buf) {
		return s.fail
	}
	at := s.base + int64(s.pos) - s.start
	return fmt.Errorf("line %d, column %d: %s", s.line+1, at+1, fmt.Sprintf(format, args...))
}

// found shows the next byte in an error.
func (s *scanner) found() string {
	if s.atEnd() {
		return "the end of the input"
	}
	return fmt.Sprintf("%q", rune(s.peek()))
}

// take demands c as the next byte that is not white space.
func (s *scanner) take(c byte) error {
	if s.next() != c {
		return s.errorf("expected '%c', found %s", c, s.found())
	}
	s.pos++
	return nil
}

// more is called within an array or object whose opening has been taken; it
// reports whether another element follows, and takes the comma before it.
func (s *scanner) more(first bool, closing byte) (bool, error) {
	switch c := s.next(); {
	case c == closing:
		s.pos++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.pos++
		if s.next() == closing {
			return false, s.errorf("nothing after the comma")
		}
		return true, nil
	}
	return false, s.errorf("expected ',' or '%c', found %s", closing, s.found())
}

// finish demands the end of the input.
func (s *scanner) finish() error {
	s.next()
	if !s.atEnd() {
		return s.errorf("expected the end of the input, found %s", s.found())
	}
	if s.fail != nil && s.fail != io.EOF {
		return s.fail
	}
	return nil
}

// str reads a string. Valid escapes are undone.
func (s *scanner) str() (string, error) {
	if s.next() != '"' {
		return "", s.errorf("expected a string, found %s", s.found())
	}
	s.pos++
	tok := s.tok[:0]
	for plain := true; ; {
		c := s.peek()
		switch {
		case s.atEnd():
			return "", s.errorf("the string does not end")
		case c < ' ':
			return "", s.errorf("control character %#02x in a string", c)
		case len(tok) >= maxString:
			return "", s.errorf("a string of more than %d bytes", maxString)
		case c == '"':
			s.pos++
			s.tok = tok[:0]
			if plain {
				return string(tok), nil
			}
			text, err := unescape(tok)
			if err != nil {
				return "", s.errorf("%v", err)
			}
			return text, nil
		case c == '\\':
			plain = false
			tok = append(tok, c)
			s.pos++
			if s.atEnd() {
				return "", s.errorf("the string does not end")
			}
			c = s.peek()
		}
		tok = append(tok, c)
		s.pos++
	}
}

// unescape undoes JSON's escapes.
func unescape(tok []byte) (string, error) {
	var out bytes.Buffer
	for i := 0; i < len(tok); i++ {
		if tok[i] != '\\' {
			out.WriteByte(tok[i])
			continue
		}
		i++
		switch c := tok[i]; c {
		case '"', '\\', '/':
			out.WriteByte(c)
		case 'b', 'f', 'n', 'r', 't':
			out.WriteByte(map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}[c])
		case 'u':
			if i+5 > len(tok) {
				return "", errors.New(`\u wants four hexadecimal digits`)
			}
			n, err := strconv.ParseUint(string(tok[i+1:i+5]), 16, 16)
			if err != nil {
				return "", errors.New(`\u wants four hexadecimal digits`)
			}
			out.WriteRune(rune(n))
			i += 4
		default:
			return "", fmt.Errorf(`\%c is not an escape`, c)
		}
	}
	return out.String(), nil
}

var numberByte = [256]bool{'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'-': true, '+': true, '.': true, 'e': true, 'E': true}

// numberToken reads the bytes of a number, valid until the next read.
func (s *scanner) numberToken() ([]byte, error) {
	s.next()
	for i := s.pos; i < len(s.buf); i++ {
		if !numberByte[s.buf[i]] {
			tok := s.buf[s.pos:i]
			s.pos = i
			if len(tok) > maxNumber {
				return nil, s.errorf("a number of more than %d characters", maxNumber)
			}
			return tok, nil
		}
	}
	tok := s.tok[:0] // across two buffers, or at the end
	for !s.atEnd() && numberByte[s.peek()] {
		if len(tok) >= maxNumber {
			return nil, s.errorf("a number of more than %d characters", maxNumber)
		}
		tok = append(tok, s.buf[s.pos])
		s.pos++
	}
	s.tok = tok[:0]
	return tok, nil
}

// parseNumber reads JSON's grammar of numbers, which is narrower than strconv's.
func parseNumber(tok []byte) (float64, string) {
	digits := tok
	if len(tok) > 0 && tok[0] == '-' {
		digits = tok[1:]
	}
	if n := len(digits); n > 0 && n <= 15 && (n == 1 || digits[0] != '0') {
		v, whole := int64(0), true
		for _, c := range digits {
			if c < '0' || c > '9' {
				whole = false
				break
			}
			v = v*10 + int64(c-'0')
		}
		if whole {
			if len(digits) < len(tok) {
				v = -v
			}
			return float64(v), ""
		}
	}
	if !isNumber(digits) {
		return 0, fmt.Sprintf("%s is not a number", quote(string(tok)))
	}
	v, err := strconv.ParseFloat(string(tok), 64)
	if err != nil {
		return 0, fmt.Sprintf("%.40s is too large a number", tok)
	}
	if v == 0 {
		v = 0 // -0 too
	}
	return v, ""
}

// isNumber checks a number without its sign: (0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?
func isNumber(b []byte) bool {
	digits := func() int {
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		b = b[n:]
		return n
	}
	zero := len(b) > 0 && b[0] == '0'
	if n := digits(); n == 0 || (zero && n > 1) {
		return false
	}
	if len(b) > 0 && b[0] == '.' {
		b = b[1:]
		if digits() == 0 {
			return false
		}
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		b = b[1:]
		if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if digits() == 0 {
			return false
		}
	}
	return len(b) == 0
}

// notNumber says what stands where a number should, and where.
func (s *scanner) notNumber(field string, layer, index int) error {
	what := s.found()
	switch s.peek() {
	case '"':
		text, err := s.str()
		if err != nil {
			return err
		}
		what = "the string " + quote(text)
	case '[':
		what = "an array"
	case '{':
		what = "an object"
	case 'n', 't', 'f', 'N', 'I':
		word := []byte{}
		for c := s.peek(); (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') && len(word) < 10; c = s.peek() {
			word = append(word, c)
			s.pos++
		}
		what = string(word)
	default:
		return s.errorf("%s: expected a number, found %s", place(field, layer, index), what)
	}
	return errorf(placement.ErrValue, field, layer, index, "%s is not a number", what)
}

func place(field string, layer, index int) string {
	e := placement.Error{Field: field, Layer: layer, Index: index}
	text := e.Error()
	return text[:len(text)-2]
}

// open takes the bracket before an array of field.
func (s *scanner) open(field string, layer int) error {
	if s.next() != '[' {
		return s.errorf("%s: expected '[', found %s", place(field, layer, -1), s.found())
	}
	s.pos++
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
		if len(row) >= max {
			return nil, errorf(placement.ErrShape, field, layer, -1, "more than %d numbers, the most that is supported", max)
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
	if !numberByte[s.next()] {
		return 0, s.notNumber(field, layer, index)
	}
	tok, err := s.numberToken()
	if err != nil {
		return 0, err
	}
	v, bad := parseNumber(tok)
	if bad != "" {
		return 0, errorf(placement.ErrValue, field, layer, index, "%s", bad)
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
		return 0, errorf(placement.ErrValue, field, layer, index, "%v is not a whole number of at most 31 bits", v)
	}
	return int(v), nil
}

// integers reads [n, n, ...] with its bracket, at most max numbers.
func (s *scanner) integers(field string, layer, max int) ([]int, error) {
	if err := s.open(field, layer); err != nil {
		return nil, err
	}
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
	err := s.array(field, -1, s.lim.layers, func(l int) error {
		row, err := s.integers(field, l, max)
		rows = append(rows, row)
		cells += len(row) + 3
		return tooMany(s.lim, field, cells, err)
	})
	return rows, err
}

// integerCube reads [layers][rows][n], at most maxRows rows of at most max numbers.
func (s *scanner) integerCube(field string, maxRows, max int) ([][][]int, error) {
	cube, cells := [][][]int{}, 0
	err := s.array(field, -1, s.lim.layers, func(l int) error {
		rows := [][]int{}
		err := s.array(field, l, maxRows, func(int) error {
			row, err := s.integers(field, l, max)
			rows = append(rows, row)
			cells += len(row) + 3
			return tooMany(s.lim, field, cells, err)
		})
		cube = append(cube, rows)
		return err
	})
	return cube, err
}

func tooMany(lim *limits, field string, cells int, err error) error {
	if err == nil && cells > 2*lim.cells {
		return errorf(placement.ErrShape, field, -1, -1, "at most %d numbers are supported", lim.cells)
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
			return errorf(placement.ErrShape, field, layer, -1, "more than %d entries, the most that is supported", max)
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
			return s.errorf("the key %s stands twice in one object", quote(key))
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
	switch c := s.next(); {
	case c == '"':
		_, err := s.str()
		return err
	case c == '[' || c == '{':
		s.pos++
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
	case numberByte[c]:
		tok, err := s.numberToken()
		if err != nil {
			return err
		}
		if len(tok) > 0 && tok[0] == '-' {
			tok = tok[1:]
		}
		if !isNumber(tok) {
			return s.errorf("%s is not a number", quote(string(tok)))
		}
		return nil
	case c == 't' || c == 'f' || c == 'n':
		word := map[byte]string{'t': "true", 'f': "false", 'n': "null"}[c]
		for i := range len(word) {
			if s.peek() != word[i] {
				return s.errorf("expected %s, found %s", word, s.found())
			}
			s.pos++
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
		row, err := s.numbers(t.name(), len(t.rows), s.lim.experts)
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
	if s.next() == ']' {
		return errorf(placement.ErrShape, t.name(), -1, -1, "no layers")
	}
	if err := s.open(t.name(), 0); err != nil {
		return err
	}
	if s.next() != '[' {
		return s.window(t, true)
	}
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
