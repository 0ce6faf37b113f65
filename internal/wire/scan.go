package wire

import (
	"fmt"
	"io"
)

// Scanner reads JSON as a stream, for inputs whose shape is known: the caller
// asks for what must come next. It holds one buffer, and one number or string at
// a time; nothing is allocated ahead of the values that call for it, and no input
// nests deeper than the caller asks.
type Scanner struct {
	r     io.Reader // nil = buf is all there is
	buf   []byte
	pos   int   // next byte in buf
	base  int64 // bytes before buf
	lines int   // ends of lines before pos
	start int64 // where the line began
	tok   []byte
	fail  error // io.EOF, or a failed read
}

// NewScanner returns a scanner of what r holds.
func NewScanner(r io.Reader) *Scanner { return NewScannerSize(r, 1<<16) }

// NewScannerSize is NewScanner with a buffer of so many bytes.
func NewScannerSize(r io.Reader, size int) *Scanner {
	return &Scanner{r: r, buf: make([]byte, 0, size), tok: make([]byte, 0, 64)}
}

// Reset lets the scanner read a line that is at hand as a whole. It must stay as
// it is until the next Reset.
func (s *Scanner) Reset(line []byte) {
	*s = Scanner{buf: line, tok: s.tok[:0]}
}

// Byte returns the next byte without taking it; 0 = the input has ended, or holds
// a zero byte here.
func (s *Scanner) Byte() byte {
	if s.pos < len(s.buf) || s.fill() {
		return s.buf[s.pos]
	}
	return 0
}

// fill reads what comes after the buffer, all of which has been taken.
func (s *Scanner) fill() bool {
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

// Peek is Byte after white space.
func (s *Scanner) Peek() byte {
	if s.pos < len(s.buf) && s.buf[s.pos] > ' ' { // nearly always
		return s.buf[s.pos]
	}
	return s.afterSpace()
}

func (s *Scanner) afterSpace() byte {
	for {
		switch c := s.Byte(); c {
		case '\n':
			s.lines++
			s.start = s.base + int64(s.pos) + 1
		case ' ', '\t', '\r':
		default:
			return c
		}
		s.pos++
	}
}

// Skip takes the byte that Byte or Peek returned.
func (s *Scanner) Skip() { s.pos++ }

// Take takes the next byte that is not white space if it is c.
func (s *Scanner) Take(c byte) bool {
	if s.Peek() != c {
		return false
	}
	s.pos++
	return true
}

// AtEnd reports, where Byte or Peek returned 0, whether nothing follows.
func (s *Scanner) AtEnd() bool { return s.pos == len(s.buf) && !s.fill() }

// Failed is the failed read at which the input ended; nil = it ended, or goes on.
func (s *Scanner) Failed() error {
	if s.fail == io.EOF || s.pos < len(s.buf) {
		return nil
	}
	return s.fail
}

// Place says where the next byte stands: "line 1, column 1" is the first.
func (s *Scanner) Place() string {
	return fmt.Sprintf("line %d, column %d", s.lines+1, s.base+int64(s.pos)-s.start+1)
}

// class is a set of bytes.
type class [256]bool

func classOf(bytes string) *class {
	var c class
	for i := range len(bytes) {
		c[bytes[i]] = true
	}
	return &c
}

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyz"
)

var (
	numberBytes = classOf(digits + "-+.eE")
	wordBytes   = classOf(digits + "-+._" + letters + "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
)

// token takes the bytes of a class that come next, at most one more than most: so
// many are too many. It is valid until the next read.
func (s *Scanner) token(of *class, most int) []byte {
	s.Peek()
	for i := s.pos; i < len(s.buf); i++ {
		if !of[s.buf[i]] || i-s.pos > most {
			tok := s.buf[s.pos:i]
			s.pos = i
			return tok
		}
	}
	s.tok = s.tok[:0] // across two buffers, or at the end
	for c := s.Byte(); of[c] && len(s.tok) <= most; c = s.Byte() {
		s.tok = append(s.tok, c)
		s.pos++
	}
	return s.tok
}
