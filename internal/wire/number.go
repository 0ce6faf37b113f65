package wire

import (
	"math"
	"strconv"
	"unsafe"

	"github.com/moelb/moelb/placement"
)

// number reports whether a word is a number as JSON writes it.
func number(b []byte) bool {
	digits := func() bool {
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
	if len(b) > 1 && b[0] == '0' && b[1] >= '0' && b[1] <= '9' || !digits() {
		return false
	}
	if len(b) > 0 && b[0] == '.' {
		if b = b[1:]; !digits() {
			return false
		}
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		if b = b[1:]; len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if !digits() {
			return false
		}
	}
	return len(b) == 0
}

// Number reads a finite number; what says in an error which one is needed.
func (s *Scanner) Number(what, field string, layer, index int) (float64, error) {
	if c := s.Peek(); c != '-' && (c < '0' || c > '9') {
		return 0, s.Wanted(what, field, layer, index)
	}
	b := s.word()
	if n, ok := smallInt(b); ok {
		return n, nil
	}
	switch {
	case string(b) == "-Infinity":
		return 0, Bad(placement.ErrValue, field, layer, index, "%s is not a finite number: %s is needed", b, what)
	case !number(b):
		return 0, Bad(placement.ErrValue, field, layer, index, "%q is not a number: %s is needed", b, what)
	}
	x, err := strconv.ParseFloat(unsafe.String(&b[0], len(b)), 64)
	if err != nil || math.IsInf(x, 0) {
		return 0, Bad(placement.ErrValue, field, layer, index, "%s is too large: %s is needed", b, what)
	}
	return x + 0, nil
}

// smallInt converts up to 15 digits, exactly.
func smallInt(b []byte) (float64, bool) {
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
