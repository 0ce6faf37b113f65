package formats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
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
			if c = s.peek(); c < ' ' {
				return "", s.errorf("control character %#02x in a string", c)
			}
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
			return "", fmt.Errorf("%q is not an escape", `\`+string(rune(c)))
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
