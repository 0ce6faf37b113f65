package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"unsafe"

	"github.com/moelb/moelb/placement"
)

// scanner reads JSON as a stream, for inputs whose shape is known: the caller
// asks for what must come next. Every error names the field and the place in
// it; nothing is allocated ahead of the values that call for it, and no input
// nests deeper than the caller asks.
type scanner struct {
	r         io.Reader
	buf       []byte
	pos, end  int
	tok       []byte
	exhausted error
}

func newScanner(r io.Reader) *scanner {
	return &scanner{r: r, buf: make([]byte, 1<<16), tok: make([]byte, 0, 64)}
}

// bad builds an error at a place; layer and index are -1 where they do not apply.
func bad(kind error, field string, layer, index int, format string, args ...any) error {
	return &placement.Error{Field: field, Layer: layer, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// byteAt returns the next byte without taking it; 0 = the input has ended.
func (s *scanner) byteAt() byte {
	for s.pos == s.end {
		if s.exhausted != nil {
			return 0
		}
		s.pos = 0
		s.end, s.exhausted = s.r.Read(s.buf)
	}
	return s.buf[s.pos]
}

// peek is byteAt after white space.
func (s *scanner) peek() byte {
	for {
		switch c := s.byteAt(); c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
}

// take takes the next byte if it is c.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// ended reports whether the input is at its end, and an error in reading it.
func (s *scanner) ended() (bool, error) {
	if s.peek() == 0 && s.pos == s.end {
		if s.exhausted != io.EOF {
			return true, s.exhausted
		}
		return true, nil
	}
	return false, nil
}

// wanted is the error for a value of another kind than the one that is needed.
func (s *scanner) wanted(what, field string, layer, index int) error {
	if end, err := s.ended(); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	} else if end {
		return bad(placement.ErrShape, field, layer, index, "the input ends here: %s is needed", what)
	}
	return bad(placement.ErrValue, field, layer, index, "%s: %s is needed", s.describe(), what)
}

// describe names the value that comes next.
func (s *scanner) describe() string {
	switch c := s.peek(); {
	case c == '[':
		return "a list"
	case c == '{':
		return "an object"
	case c == '"':
		if text, ok := s.text(); ok {
			return strconv.Quote(text) + " is a string"
		}
		return "a string"
	case c == ',' || c == ']' || c == '}' || c == ':':
		return strconv.Quote(string(c))
	}
	word := s.word()
	switch string(word) {
	case "":
		return strconv.Quote(string(rune(s.byteAt()))) + " is not JSON"
	case "null", "true", "false":
		return string(word)
	case "NaN", "Infinity", "-Infinity":
		return string(word) + " is not a finite number"
	}
	if number(word) {
		return string(word) + " is a number"
	}
	return strconv.Quote(string(word)) + " is not JSON"
}

// longest is how much of a word, a number or a string is read.
const longest = 1 << 10

// word takes the letters, digits and signs that come next into s.tok.
func (s *scanner) word() []byte {
	s.tok = s.tok[:0]
	for c := s.peek(); ; c = s.byteAt() {
		if !(c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_') || len(s.tok) > longest {
			return s.tok
		}
		s.tok = append(s.tok, c)
		s.pos++
	}
}

// text takes a string. Escapes are taken as they stand but for \" and \\: no
// name that a caller knows has any.
func (s *scanner) text() (string, bool) {
	s.pos++ // the quotation mark, seen by the caller
	s.tok = s.tok[:0]
	for len(s.tok) <= longest {
		c := s.byteAt()
		if c < ' ' {
			return "", false
		}
		s.pos++
		switch c {
		case '"':
			return string(s.tok), true
		case '\\':
			if c = s.byteAt(); c < ' ' {
				return "", false
			}
			s.pos++
			if c != '"' && c != '\\' {
				s.tok = append(s.tok, '\\')
			}
		}
		s.tok = append(s.tok, c)
	}
	return "", false
}

// string reads a string.
func (s *scanner) string(field string) (string, error) {
	if s.peek() != '"' {
		return "", s.wanted("a string", field, -1, -1)
	}
	text, ok := s.text()
	if !ok {
		return "", s.endless("a string", field)
	}
	return text, nil
}

// endless is the error for a string that text did not take.
func (s *scanner) endless(what, field string) error {
	if end, err := s.ended(); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	} else if end {
		return bad(placement.ErrShape, field, -1, -1, "the input ends within %s", what)
	}
	return bad(placement.ErrValue, field, -1, -1, "%s that is too long or holds a control character: %.20q…", what, s.tok)
}

// object reads an object and calls value for each key; the scanner then stands
// before its value. A key that comes twice is an error.
func (s *scanner) object(field string, value func(key string) error) error {
	if !s.take('{') {
		return s.wanted("an object", field, -1, -1)
	}
	var seen []string
	for first := true; !s.take('}'); first = false {
		if !first && !s.take(',') {
			return s.wanted(`"," or "}"`, field, -1, -1)
		}
		if s.peek() != '"' {
			return s.wanted("a field's name", field, -1, -1)
		}
		key, ok := s.text()
		if !ok {
			return s.endless("a field's name", field)
		}
		if !s.take(':') {
			return s.wanted(`":"`, key, -1, -1)
		}
		for _, k := range seen {
			if k == key {
				return bad(placement.ErrShape, key, -1, -1, "given twice")
			}
		}
		if err := value(key); err != nil {
			return err
		}
		seen = append(seen, key)
	}
	return nil
}

// finish demands that nothing follows.
func (s *scanner) finish(field string) error {
	end, err := s.ended()
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if !end {
		return bad(placement.ErrShape, field, -1, -1, "%s after its end: one object is needed", s.describe())
	}
	return nil
}

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

// number reads a finite number; what says in an error which one is needed.
func (s *scanner) number(what, field string, layer, index int) (float64, error) {
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		return 0, s.wanted(what, field, layer, index)
	}
	b := s.word()
	if n, ok := smallInt(b); ok {
		return n, nil
	}
	switch {
	case string(b) == "-Infinity":
		return 0, bad(placement.ErrValue, field, layer, index, "%s is not a finite number: %s is needed", b, what)
	case !number(b):
		return 0, bad(placement.ErrValue, field, layer, index, "%q is not a number: %s is needed", b, what)
	}
	x, err := strconv.ParseFloat(unsafe.String(&b[0], len(b)), 64)
	if err != nil || math.IsInf(x, 0) {
		return 0, bad(placement.ErrValue, field, layer, index, "%s is too large: %s is needed", b, what)
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

// integer reads a whole number in [least, most].
func (s *scanner) integer(field string, least, most int) (int, error) {
	x, err := s.number("an integer", field, -1, -1)
	switch {
	case err != nil:
		return 0, err
	case x != math.Trunc(x):
		return 0, bad(placement.ErrValue, field, -1, -1, "%v is not an integer", x)
	case x < float64(least):
		return 0, bad(placement.ErrValue, field, -1, -1, "%s: at least %d is needed", plain(x), least)
	case x > float64(most):
		return 0, bad(placement.ErrValue, field, -1, -1, "%s: at most %d are supported", plain(x), most)
	}
	return int(x), nil
}

func plain(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
