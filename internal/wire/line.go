package wire

import (
	"encoding/json"
	"io"

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

// Name reads a string that the caller chose, with JSON's escapes, of a line.
func (s *Scanner) Name(field string) (string, error) {
	if s.Peek() != '"' {
		return "", s.Wanted("a string", field, -1, -1)
	}
	rest, escaped := s.buf[s.pos:s.end], false
	for i := 1; i < len(rest) && i <= longest; i++ {
		switch c := rest[i]; {
		case c < ' ':
			return "", Bad(placement.ErrValue, field, -1, -1, "a string holds a control character")
		case c == '\\':
			escaped = true
			i++
		case c == '"':
			s.pos += i + 1
			if !escaped {
				return string(rest[1:i]), nil
			}
			var text string
			if json.Unmarshal(rest[:i+1], &text) != nil {
				return "", Bad(placement.ErrValue, field, -1, -1, "a string with an escape that is not JSON")
			}
			return text, nil
		}
	}
	return "", Bad(placement.ErrValue, field, -1, -1, "a string without end, or longer than %d bytes", longest)
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
