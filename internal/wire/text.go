package wire

import (
	"fmt"
	"math"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/moelb/moelb/placement"
)

// Flaw is what is wrong with a string.
type Flaw int

const (
	Sound      Flaw = iota
	Endless         // the input ends in it
	Long            // it is longer than is allowed
	Control         // it holds a control character, which Byte returns
	BadEscape       // it holds a backslash before a byte that makes no escape, which Byte returns
	BadUnicode      // it holds \u without four hexadecimal digits, or half a character
)

// String reads a string, before whose quotation mark the scanner stands: at most
// so many bytes, its escapes undone.
func (s *Scanner) String(most int) (string, Flaw) {
	s.pos++ // the quotation mark, seen by the caller
	for i, c := range s.buf[s.pos:] {
		if c == '"' && i <= most { // nearly always: all of it is at hand, and as it stands
			text := string(s.buf[s.pos : s.pos+i])
			s.pos += i + 1
			return text, Sound
		}
		if c < ' ' || c == '\\' || i > most {
			break
		}
	}
	s.tok = s.tok[:0]
	for {
		switch c := s.Byte(); {
		case c < ' ':
			if c == 0 && s.AtEnd() {
				return "", Endless
			}
			return "", Control
		case c == '"':
			s.pos++
			return string(s.tok), Sound
		case len(s.tok) > most:
			return "", Long
		case c == '\\':
			s.pos++
			if flaw := s.escape(); flaw != Sound {
				return "", flaw
			}
		default:
			s.tok = append(s.tok, c)
			s.pos++
		}
		if len(s.tok) > most {
			return "", Long
		}
	}
}

// escape reads an escape, whose backslash is taken, of a whole character.
func (s *Scanner) escape() Flaw {
	c := s.Byte()
	if c == 0 && s.AtEnd() {
		return Endless
	}
	switch c {
	case '"', '\\', '/':
		s.tok = append(s.tok, c)
	case 'b':
		s.tok = append(s.tok, '\b')
	case 'f':
		s.tok = append(s.tok, '\f')
	case 'n':
		s.tok = append(s.tok, '\n')
	case 'r':
		s.tok = append(s.tok, '\r')
	case 't':
		s.tok = append(s.tok, '\t')
	case 'u':
		r, ok := s.unit()
		if ok && utf16.IsSurrogate(r) {
			ok = s.Byte() == '\\'
			if ok {
				s.pos++
				if ok = s.Byte() == 'u'; ok {
					var low rune
					low, ok = s.unit()
					r = utf16.DecodeRune(r, low)
					ok = ok && r != utf8.RuneError
				}
			}
		}
		if !ok {
			return BadUnicode
		}
		s.tok = utf8.AppendRune(s.tok, r)
		return Sound
	default:
		if c < ' ' {
			return Control
		}
		return BadEscape
	}
	s.pos++
	return Sound
}

// unit reads u and the four digits of a code unit.
func (s *Scanner) unit() (r rune, ok bool) {
	s.pos++ // u
	for range 4 {
		switch c := s.Byte(); {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
		s.pos++
	}
	return r, true
}

// longest is how many bytes of a word, a number or a string of the caller's own
// words are read.
const longest = 1 << 10

// LongestName is how long a name that the caller chose may be, in bytes once its
// escapes are read.
const LongestName = 1 << 10

// Text reads a string.
func (s *Scanner) Text(field string) (string, error) {
	return s.textOf("a string", field)
}

// textOf is Text of what is called so.
func (s *Scanner) textOf(what, field string) (string, error) {
	if s.Peek() != '"' {
		return "", s.Wanted(what, field, -1, -1)
	}
	text, flaw := s.String(longest)
	switch flaw {
	case Sound:
		return text, nil
	case Endless:
		if err := s.Failed(); err != nil {
			return "", fmt.Errorf("%s: %w", field, err)
		}
		return "", Bad(placement.ErrShape, field, -1, -1, "the input ends within %s", what)
	case BadEscape, BadUnicode:
		return "", Bad(placement.ErrValue, field, -1, -1, "%s %s", what, notEscape)
	}
	return "", Bad(placement.ErrValue, field, -1, -1, "%s that is too long or holds a control character: %.20q…", what, s.tok)
}

const notEscape = "with an escape that is not JSON, or of half a character"

// Name reads a string that the caller chose: 1 to LongestName bytes of valid
// UTF-8, byte for byte.
func (s *Scanner) Name(field string) (string, error) {
	if s.Peek() != '"' {
		return "", s.Wanted("a string", field, -1, -1)
	}
	text, flaw := s.String(LongestName)
	switch {
	case flaw == Control:
		return "", Bad(placement.ErrValue, field, -1, -1, "a string holds a control character")
	case flaw == BadEscape || flaw == BadUnicode:
		return "", Bad(placement.ErrValue, field, -1, -1, "a string %s", notEscape)
	case flaw != Sound:
		return "", Bad(placement.ErrValue, field, -1, -1, "a string without end, or longer than %d bytes", LongestName)
	case text == "":
		return "", Bad(placement.ErrValue, field, -1, -1, "an empty string")
	case !utf8.ValidString(text):
		return "", Bad(placement.ErrValue, field, -1, -1, "a string that is no valid UTF-8")
	}
	return text, nil
}

// Blob reads a string of any length.
func (s *Scanner) Blob(field string) (string, error) {
	if s.Peek() != '"' {
		return "", s.Wanted("a string", field, -1, -1)
	}
	text, flaw := s.String(math.MaxInt - 1)
	if flaw != Sound {
		return "", Bad(placement.ErrShape, field, -1, -1, "a string without end")
	}
	return text, nil
}
