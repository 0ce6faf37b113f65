package wire

import (
	"math"
	"strconv"
	"unsafe"

	"github.com/moelb/moelb/placement"
)

// IsNumber reports whether text is a number as JSON writes it, which is narrower
// than strconv's: -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?
func IsNumber(b []byte) bool {
	run := func() bool {
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		b = b[n:]
		return n > 0
	}
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	if len(b) > 1 && b[0] == '0' && b[1] >= '0' && b[1] <= '9' || !run() {
		return false
	}
	if len(b) > 0 && b[0] == '.' {
		if b = b[1:]; !run() {
			return false
		}
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		if b = b[1:]; len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if !run() {
			return false
		}
	}
	return len(b) == 0
}

// ParseNumber reads a number as JSON writes it: whether it is one, and whether it
// is finite. -0 is 0.
func ParseNumber(b []byte) (x float64, number, finite bool) {
	if x, ok := smallInt(b); ok {
		return x, true, true
	}
	if !IsNumber(b) {
		return 0, false, false
	}
	x, err := strconv.ParseFloat(unsafe.String(&b[0], len(b)), 64)
	return x + 0, true, err == nil
}

// smallInt converts a sign at most and up to 15 digits, exactly.
func smallInt(b []byte) (float64, bool) {
	if len(b) > 0 && b[0] == '-' {
		x, ok := smallInt(b[1:])
		return 0 - x, ok && b[1] != '-'
	}
	if len(b) == 0 || len(b) > 15 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return float64(n), true
}

// IsDigits reports whether a number may hold a byte.
func IsDigits(c byte) bool { return numberBytes[c] }

// NumberText takes the bytes of a number, at most one more than most: so many are
// too many. It is valid until the next read.
func (s *Scanner) NumberText(most int) []byte { return s.token(numberBytes, most) }

// Small appends to a list's numbers those that come next and are of the common
// kind: up to 15 digits, a comma, a blank at most and another digit, all within
// the buffer. It stops before the first that is anything else, or when row holds
// most numbers.
func (s *Scanner) Small(row []float64, most int) []float64 {
	for len(row) < most {
		rest := s.buf[s.pos:]
		v, i := int64(0), 0
		for i < len(rest) && i < 15 && rest[i]-'0' <= 9 {
			v = v*10 + int64(rest[i]-'0')
			i++
		}
		if i == 0 || (i > 1 && rest[0] == '0') || i+2 >= len(rest) || rest[i] != ',' {
			return row
		}
		i++
		if rest[i] == ' ' {
			i++
		}
		if rest[i]-'0' > 9 {
			return row
		}
		row = append(row, float64(v))
		s.pos += i
	}
	return row
}

// Count takes a number of a sign at most and up to 15 digits, where one comes next
// and it and what ends it are at hand.
func (s *Scanner) Count() (x float64, ok bool) {
	from, sign := s.pos, int64(1)
	if from < len(s.buf) && s.buf[from] == '-' {
		from, sign = from+1, -1
	}
	rest := s.buf[from:]
	v, i := int64(0), 0
	for i < len(rest) && i < 16 && rest[i]-'0' <= 9 {
		v = v*10 + int64(rest[i]-'0')
		i++
	}
	if i == 0 || i > 15 || i == len(rest) || i > 1 && rest[0] == '0' {
		return 0, false
	}
	switch rest[i] {
	case ',', ']', '}', ' ', '\n', '\r', '\t':
		s.pos = from + i
		return float64(sign * v), true
	}
	return 0, false
}

// Number reads a finite number; what says in an error which one is needed.
func (s *Scanner) Number(what, field string, layer, index int) (float64, error) {
	if c := s.Peek(); c != '-' && (c < '0' || c > '9') {
		return 0, s.Wanted(what, field, layer, index)
	}
	if x, ok := s.Count(); ok {
		return x, nil
	}
	b := s.word()
	x, number, finite := ParseNumber(b)
	switch {
	case finite:
		return x, nil
	case string(b) == "-Infinity":
		return 0, Bad(placement.ErrValue, field, layer, index, "%s is not a finite number: %s is needed", b, what)
	case !number:
		return 0, Bad(placement.ErrValue, field, layer, index, "%q is not a number: %s is needed", b, what)
	}
	return 0, Bad(placement.ErrValue, field, layer, index, "%s is too large: %s is needed", b, what)
}

// Integer reads a whole number in [least, most].
func (s *Scanner) Integer(field string, least, most int) (int, error) {
	x, err := s.Number("an integer", field, -1, -1)
	switch {
	case err != nil:
		return 0, err
	case x != math.Trunc(x):
		return 0, Bad(placement.ErrValue, field, -1, -1, "%v is not an integer", x)
	case x < float64(least):
		return 0, Bad(placement.ErrValue, field, -1, -1, "%s: at least %d is needed", Plain(x), least)
	case x > float64(most):
		return 0, Bad(placement.ErrValue, field, -1, -1, "%s: at most %d are supported", Plain(x), most)
	}
	return int(x), nil
}

// Whole reads a whole number from 0 to most, which may be beyond an int.
func (s *Scanner) Whole(field string, most float64) (float64, error) {
	x, err := s.Number("a whole number", field, -1, -1)
	if err == nil && (x < 0 || x > most || x != float64(int64(x))) {
		err = Bad(placement.ErrValue, field, -1, -1, "%s: a whole number from 0 to %s is needed", Plain(x), Plain(most))
	}
	return x, err
}
