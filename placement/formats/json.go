package formats

import (
	"fmt"
	"io"

	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// scanner reads JSON text strictly and as a stream, with errors that say where in
// the text something is malformed, and where in an array a bad value stands.
type scanner struct {
	*wire.Scanner
	lim *guard.Limits
	row []float64
}

func newScanner(r io.Reader, lim *guard.Limits) *scanner {
	return &scanner{Scanner: wire.NewScannerSize(r, lim.Buffer), lim: lim}
}

// maxDepth bounds the nesting of values that are skipped.
const maxDepth = 64

// maxNumber and maxString bound a token's bytes.
const (
	maxNumber = 512
	maxString = 4096
)

// errorf reports malformed text, or the failed read behind it, with its place.
func (s *scanner) errorf(format string, args ...any) error {
	if err := s.Failed(); err != nil {
		return err
	}
	return fmt.Errorf("%s: %s", s.Place(), fmt.Sprintf(format, args...))
}

// found shows the next byte in an error.
func (s *scanner) found() string {
	c := s.Byte()
	if c == 0 && s.AtEnd() {
		return "the end of the input"
	}
	return fmt.Sprintf("%q", rune(c))
}

// take demands c as the next byte that is not white space.
func (s *scanner) take(c byte) error {
	if !s.Take(c) {
		return s.errorf("expected '%c', found %s", c, s.found())
	}
	return nil
}

// more is called within an array or object whose opening has been taken; it
// reports whether another element follows, and takes the comma before it.
func (s *scanner) more(first bool, closing byte) (bool, error) {
	switch c := s.Peek(); {
	case c == closing:
		s.Skip()
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.Skip()
		if s.Peek() == closing {
			return false, s.errorf("nothing after the comma")
		}
		return true, nil
	}
	return false, s.errorf("expected ',' or '%c', found %s", closing, s.found())
}

// finish demands the end of the input.
func (s *scanner) finish() error {
	if s.Peek() != 0 || !s.AtEnd() {
		return s.errorf("expected the end of the input, found %s", s.found())
	}
	return s.Failed()
}

// str reads a string. Valid escapes are undone.
func (s *scanner) str() (string, error) {
	if s.Peek() != '"' {
		return "", s.errorf("expected a string, found %s", s.found())
	}
	text, flaw := s.String(maxString)
	switch flaw {
	case wire.Sound:
		return text, nil
	case wire.Endless:
		return "", s.errorf("the string does not end")
	case wire.Long:
		return "", s.errorf("a string of more than %d bytes", maxString)
	case wire.Control:
		return "", s.errorf("control character %#02x in a string", s.Byte())
	case wire.BadEscape:
		return "", s.errorf("%q is not an escape", `\`+string(rune(s.Byte())))
	}
	return "", s.errorf(`\u wants four hexadecimal digits, of a whole character`)
}

// numberToken reads the bytes of a number, valid until the next read.
func (s *scanner) numberToken() ([]byte, error) {
	tok := s.NumberText(maxNumber)
	if len(tok) > maxNumber {
		return nil, s.errorf("a number of more than %d characters", maxNumber)
	}
	return tok, nil
}

// parseNumber says what is wrong with a number; "" = nothing.
func parseNumber(tok []byte) (float64, string) {
	x, number, finite := wire.ParseNumber(tok)
	switch {
	case finite:
		return x, ""
	case number:
		return 0, fmt.Sprintf("%.40s is too large a number", tok)
	}
	return 0, fmt.Sprintf("%s is not a number", guard.Quote(string(tok)))
}
