package wire

import (
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/moelb/moelb/placement"
)

// noMore is a reader at its end.
type noMore struct{}

func (noMore) Read([]byte) (int, error) { return 0, io.EOF }

// Reset lets the scanner read a line that is at hand as a whole. It must stay as
// it is until the next Reset.
func (s *Scanner) Reset(line []byte) {
	*s = Scanner{r: noMore{}, buf: line, end: len(line), tok: s.tok[:0]}
}

// LongestName is how long a name that the caller chose may be, in bytes once its
// escapes are read.
const LongestName = 1 << 10

// Name reads a string that the caller chose, with JSON's escapes, of a line: 1 to
// LongestName bytes of valid UTF-8, byte for byte.
func (s *Scanner) Name(field string) (string, error) {
	if s.Peek() != '"' {
		return "", s.Wanted("a string", field, -1, -1)
	}
	rest := s.buf[s.pos+1 : s.end]
	s.tok = s.tok[:0]
	for i := 0; i < len(rest) && len(s.tok) <= LongestName; {
		switch c := rest[i]; {
		case c == '"':
			s.pos += i + 2
			switch {
			case len(s.tok) == 0:
				return "", Bad(placement.ErrValue, field, -1, -1, "an empty string")
			case !utf8.Valid(s.tok):
				return "", Bad(placement.ErrValue, field, -1, -1, "a string that is no valid UTF-8")
			}
			return string(s.tok), nil
		case c < ' ':
			return "", Bad(placement.ErrValue, field, -1, -1, "a string holds a control character")
		case c == '\\':
			r, n := unescape(rest[i:])
			if n == 0 {
				return "", Bad(placement.ErrValue, field, -1, -1, "a string with an escape that is not JSON, or of half a character")
			}
			s.tok = utf8.AppendRune(s.tok, r)
			i += n
		default:
			s.tok = append(s.tok, c)
			i++
		}
	}
	return "", Bad(placement.ErrValue, field, -1, -1, "a string without end, or longer than %d bytes", LongestName)
}

// unescape reads the escape that b starts with, of a whole character, and returns
// it and how many bytes it takes; 0 = it is none.
func unescape(b []byte) (rune, int) {
	if len(b) < 2 {
		return 0, 0
	}
	if i := strings.IndexByte(`"\/bfnrt`, b[1]); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), 2
	}
	r, ok := unit(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	low, ok := unit(b[6:])
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// unit reads the code unit that an escape of four digits stands for.
func unit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	r := rune(0)
	for _, c := range b[2:6] {
		digit := strings.IndexByte("0123456789abcdef", c|0x20)
		if digit < 0 || c < '0' {
			return 0, false
		}
		r = r<<4 | rune(digit)
	}
	return r, true
}

// Named reads an object whose fields are names that the caller chose and calls
// value for each, at most most; whether one comes twice is for the caller to see.
func (s *Scanner) Named(field string, most int, value func(name string) error) error {
	if !s.Take('{') {
		return s.Wanted("an object", field, -1, -1)
	}
	for n := 0; !s.Take('}'); n++ {
		if n > 0 && !s.Take(',') {
			return s.Wanted(`"," or "}"`, field, -1, n)
		}
		if n == most {
			return Bad(placement.ErrShape, field, -1, -1, "more than %d", most)
		}
		name, err := s.Name(field)
		if err != nil {
			return err
		}
		if !s.Take(':') {
			return s.Wanted(`":"`, field, -1, n)
		}
		if err := value(name); err != nil {
			return err
		}
	}
	return nil
}

// Blob reads a string of any length without escapes, of a line.
func (s *Scanner) Blob(field string) (string, error) {
	if s.Peek() != '"' {
		return "", s.Wanted("a string", field, -1, -1)
	}
	rest := s.buf[s.pos+1 : s.end]
	for i, c := range rest {
		if c == '"' {
			s.pos += i + 2
			return string(rest[:i]), nil
		}
	}
	return "", Bad(placement.ErrShape, field, -1, -1, "a string without end")
}

// Each reads a list and calls item for each of its values, at most most.
func (s *Scanner) Each(field string, most int, item func(index int) error) error {
	if !s.Take('[') {
		return s.Wanted("a list", field, -1, -1)
	}
	for i := 0; !s.Take(']'); i++ {
		if i > 0 && !s.Take(',') {
			return s.Wanted(`"," or "]"`, field, -1, i)
		}
		if i == most {
			return Bad(placement.ErrShape, field, -1, -1, "more than %d", most)
		}
		if err := item(i); err != nil {
			return err
		}
	}
	return nil
}
