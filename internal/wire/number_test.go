package wire

import (
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/moelb/moelb/placement"
)

// TestNumber: numbers are what encoding/json takes for numbers, whichever way they
// come and wherever the buffer ends.
func TestNumber(t *testing.T) {
	for _, text := range []string{"0", "-0", "7", "-7", "10", "01", "-01", "--1", "-", "", "+1", "1.", ".5", "1.5", "-1.5", "1e3", "1E+3", "1e-3", "1e", "1e+", "00", "123456789012345", "1234567890123456", "-123456789012345", "-1234567890123456", "9007199254740993",
		"1e999", "-1e999", "1e-999", "NaN", "Infinity", "-Infinity", "1a", "0x10", "1_000", "3.0", strings.Repeat("1", 300), strings.Repeat("1", 400), "0." + strings.Repeat("3", 700)} {
		want, valid := 0.0, json.Unmarshal([]byte(text), new(json.Number)) == nil
		if valid {
			valid = json.Unmarshal([]byte(text), &want) == nil
		}
		if x, number, finite := ParseNumber([]byte(text)); (number && finite) != valid || valid && x != want || IsNumber([]byte(text)) != number || valid && math.Signbit(x) != (want < 0) {
			t.Errorf("%.30q: %v, %v, %v, want %v, %v", text, x, number, finite, want, valid)
		}
		for _, size := range []int{1, 16, 1 << 10} {
			s := NewScannerSize(strings.NewReader(text+","), size)
			x, err := s.Number("a number", "field", -1, -1)
			if valid = valid && len(text) <= longest; (err == nil) != valid || valid && (x != want || !s.Take(',')) {
				t.Errorf("%.30q in a buffer of %d: %v, %v, want %v, %v", text, size, x, err, want, valid)
			}
		}
	}
}

// TestSmall: a list's numbers are the same taken many at a time or one by one.
func TestSmall(t *testing.T) {
	for text, n := range map[string]int{"1,2, 3,4]": 3, "1]": 0, "1,2": 0, "1,01,23": 1, "1,  2,3": 0, "1,-2,3": 0, "1,2.5,3": 1, "1,\n2": 0, "1234567890123456,1": 0, "1,2,": 1, "": 0} {
		s := NewScanner(strings.NewReader(text))
		s.Peek()
		if got := s.Small(nil, 10); len(got) != n {
			t.Errorf("%q: %v", text, got)
		}
	}
	s := NewScanner(strings.NewReader("1,2,3,4,5"))
	s.Peek()
	if got := s.Small([]float64{9}, 3); len(got) != 3 || got[0] != 9 || s.Byte() != '3' {
		t.Errorf("%v, then %q", got, s.Byte())
	}
}

// TestPlace: lines and columns count what was taken, over any buffers.
func TestPlace(t *testing.T) {
	for _, size := range []int{1, 3, 100} {
		s := NewScannerSize(iotest.OneByteReader(strings.NewReader("[1,\n\n  \"a\\u0041\", x")), size)
		at := func(want string) {
			t.Helper()
			if s.Peek(); s.Place() != want {
				t.Errorf("buffer of %d: %s, want %s", size, s.Place(), want)
			}
		}
		at("line 1, column 1")
		s.Take('[')
		s.Number("", "", -1, -1)
		at("line 1, column 3")
		s.Take(',')
		at("line 3, column 3")
		if text, flaw := s.String(10); text != "aA" || flaw != Sound {
			t.Error(text, flaw)
		}
		s.Take(',')
		at("line 3, column 14")
	}
}

// TestString: every flaw is told, over any buffers.
func TestString(t *testing.T) {
	for text, want := range map[string]Flaw{`"abcd"`: Sound, `"abcde"`: Long, `"\u0061\u0062cd"`: Sound, `"abc\n\n"`: Long, `"abc`: Endless, `"abc\`: Endless, "\"a\x00\"": Control, "\"a\n\"": Control, "\"a\\\n\"": Control, `"\x"`: BadEscape, `"\u12"`: BadUnicode, `"\u12`: BadUnicode, `"\ud800\n"`: BadUnicode, `"é"`: Sound} {
		for _, size := range []int{1, 2, 5, 100} {
			s := NewScannerSize(strings.NewReader(text), size)
			s.Peek()
			if got, flaw := s.String(4); flaw != want {
				t.Errorf("%q in a buffer of %d: %q, %v, want %v", text, size, got, flaw, want)
			}
		}
	}
}

// TestFailed: a failed read is told, not taken for the input's end.
func TestFailed(t *testing.T) {
	s := NewScanner(io.MultiReader(strings.NewReader(`{"a":`), iotest.ErrReader(placement.ErrValue)))
	err := s.Object("o", func(string) error { _, err := s.Number("a number", "a", -1, -1); return err })
	if err == nil || err.Error() != "a: "+placement.ErrValue.Error() {
		t.Error(err)
	}
	s = NewScanner(iotest.ErrReader(placement.ErrValue))
	if end, err := s.Ended(); !end || err != placement.ErrValue {
		t.Error(end, err)
	}
}
