package wire

import (
	"strconv"

	"github.com/moelb/moelb/placement"
)

// Bool reads true or false.
func (s *Scanner) Bool(field string) (bool, error) {
	const what = "true or false"
	if c := s.Peek(); c != 't' && c != 'f' {
		return false, s.Wanted(what, field, -1, -1)
	}
	switch word := string(s.word()); word {
	case "true", "false":
		return word == "true", nil
	default:
		return false, Bad(placement.ErrValue, field, -1, -1, "%s is not JSON: %s is needed", strconv.Quote(word), what)
	}
}
