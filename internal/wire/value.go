package wire

import (
	"fmt"
	"strconv"

	"github.com/moelb/moelb/placement"
)

// Every error of what is here names the field and the place in it.

// Ended reports whether the input is at its end, and an error in reading it.
func (s *Scanner) Ended() (bool, error) {
	if s.Peek() == 0 && s.AtEnd() {
		return true, s.Failed()
	}
	return false, nil
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

// Wanted is the error for a value of another kind than the one that is needed.
func (s *Scanner) Wanted(what, field string, layer, index int) error {
	if end, err := s.Ended(); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	} else if end {
		return Bad(placement.ErrShape, field, layer, index, "the input ends here: %s is needed", what)
	}
	return Bad(placement.ErrValue, field, layer, index, "%s: %s is needed", s.describe(), what)
}

// word takes the letters, digits and signs that come next.
func (s *Scanner) word() []byte { return s.token(wordBytes, longest) }

// describe names the value that comes next.
func (s *Scanner) describe() string {
	switch c := s.Peek(); {
	case c == '[':
		return "a list"
	case c == '{':
		return "an object"
	case c == '"':
		if text, flaw := s.String(longest); flaw == Sound {
			return strconv.Quote(text) + " is a string"
		}
		return "a string"
	case c == ',' || c == ']' || c == '}' || c == ':':
		return strconv.Quote(string(c))
	}
	word := s.word()
	switch string(word) {
	case "":
		return strconv.Quote(string(rune(s.Byte()))) + " is not JSON"
	case "null", "true", "false":
		return string(word)
	case "NaN", "Infinity", "-Infinity":
		return string(word) + " is not a finite number"
	}
	if IsNumber(word) {
		return string(word) + " is a number"
	}
	return strconv.Quote(string(word)) + " is not JSON"
}

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
		key, err := s.textOf("a field's name", field)
		if err != nil {
			return err
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
