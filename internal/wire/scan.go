package wire

import (
	"fmt"
	"io"
	"strconv"

	"github.com/moelb/moelb/placement"
)

// Scanner reads JSON as a stream, for inputs whose shape is known: the caller
// asks for what must come next. Every error names the field and the place in
// it; nothing is allocated ahead of the values that call for it, and no input
// nests deeper than the caller asks.
type Scanner struct {
	r         io.Reader
	buf       []byte
	pos, end  int
	tok       []byte
	exhausted error
}

// NewScanner returns a scanner of what r holds.
func NewScanner(r io.Reader) *Scanner {
	return &Scanner{r: r, buf: make([]byte, 1<<16), tok: make([]byte, 0, 64)}
}

// byteAt returns the next byte without taking it; 0 = the input has ended.
func (s *Scanner) byteAt() byte {
	for s.pos == s.end {
		if s.exhausted != nil {
			return 0
		}
		s.pos = 0
		s.end, s.exhausted = s.r.Read(s.buf)
	}
	return s.buf[s.pos]
}

// Peek is byteAt after white space.
func (s *Scanner) Peek() byte {
	for {
		switch c := s.byteAt(); c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
}

// Take takes the next byte if it is c.
func (s *Scanner) Take(c byte) bool {
	if s.Peek() != c {
		return false
	}
	s.pos++
	return true
}

// Ended reports whether the input is at its end, and an error in reading it.
func (s *Scanner) Ended() (bool, error) {
	if s.Peek() == 0 && s.pos == s.end {
		if s.exhausted != io.EOF {
			return true, s.exhausted
		}
		return true, nil
	}
	return false, nil
}

// Wanted is the error for a value of another kind than the one that is needed.
func (s *Scanner) Wanted(what, field string, layer, index int) error {
	if end, err := s.Ended(); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	} else if end {
		return Bad(placement.ErrShape, field, layer, index, "the input ends here: %s is needed", what)
	}
	return Bad(placement.ErrValue, field, layer, index, "%s: %s is needed", s.describe(), what)
}

// describe names the value that comes next.
func (s *Scanner) describe() string {
	switch c := s.Peek(); {
	case c == '[':
		return "a list"
	case c == '{':
		return "an object"
	case c == '"':
		if text, ok := s.quoted(); ok {
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
func (s *Scanner) word() []byte {
	s.tok = s.tok[:0]
	for c := s.Peek(); ; c = s.byteAt() {
		if !(c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_') || len(s.tok) > longest {
			return s.tok
		}
		s.tok = append(s.tok, c)
		s.pos++
	}
}

// quoted takes a string. Escapes are taken as they stand but for \" and \\: no
// name that a caller knows has any.
func (s *Scanner) quoted() (string, bool) {
	s.pos++ // the quotation mark, seen by the caller
	for i, c := range s.buf[s.pos:s.end] {
		if c == '"' && i <= longest { // nearly always: all of it is at hand, and as it stands
			text := string(s.buf[s.pos : s.pos+i])
			s.pos += i + 1
			return text, true
		}
		if c < ' ' || c == '\\' || i > longest {
			break
		}
	}
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

// Text reads a string.
func (s *Scanner) Text(field string) (string, error) {
	if s.Peek() != '"' {
		return "", s.Wanted("a string", field, -1, -1)
	}
	text, ok := s.quoted()
	if !ok {
		return "", s.endless("a string", field)
	}
	return text, nil
}

// endless is the error for a string that quoted did not take.
func (s *Scanner) endless(what, field string) error {
	if end, err := s.Ended(); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	} else if end {
		return Bad(placement.ErrShape, field, -1, -1, "the input ends within %s", what)
	}
	return Bad(placement.ErrValue, field, -1, -1, "%s that is too long or holds a control character: %.20q…", what, s.tok)
}

// Object reads an object and calls value for each key; the scanner then stands
// before its value. A key that comes twice is an error.
func (s *Scanner) Object(field string, value func(key string) error) error {
	if !s.Take('{') {
		return s.Wanted("an object", field, -1, -1)
	}
	var few [8]string
	seen := few[:0]
	for first := true; !s.Take('}'); first = false {
		if !first && !s.Take(',') {
			return s.Wanted(`"," or "}"`, field, -1, -1)
		}
		if s.Peek() != '"' {
			return s.Wanted("a field's name", field, -1, -1)
		}
		key, ok := s.quoted()
		if !ok {
			return s.endless("a field's name", field)
		}
		if !s.Take(':') {
			return s.Wanted(`":"`, key, -1, -1)
		}
		for _, k := range seen {
			if k == key {
				return Bad(placement.ErrShape, key, -1, -1, "given twice")
			}
		}
		if err := value(key); err != nil {
			return err
		}
		seen = append(seen, key)
	}
	return nil
}

// Finish demands that nothing follows.
func (s *Scanner) Finish(field string) error {
	end, err := s.Ended()
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if !end {
		return Bad(placement.ErrShape, field, -1, -1, "%s after its end: one object is needed", s.describe())
	}
	return nil
}
