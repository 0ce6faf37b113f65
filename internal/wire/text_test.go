package wire

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// TestName: a name that was written is read back, as encoding/json reads it.
func TestName(t *testing.T) {
	for _, name := range []string{"a", `say "a"`, `back\slash`, "line\nend", "é", "\x7f", "漢字", "\u2028", "\x00", "😀/\ufffd", strings.Repeat("<", LongestName), strings.Repeat("\x00", LongestName), strings.Repeat("é", LongestName/2)} {
		var e Encoder
		e.Name(name)
		var s Scanner
		s.Reset(e.B)
		got, err := s.Name("id")
		if err == nil {
			err = s.Finish("line")
		}
		var want string
		if json.Unmarshal(e.B, &want) != nil || err != nil || got != name || want != name {
			t.Errorf("%q was written as %s and read as %q, %v", name, e.B, got, err)
		}
	}
	for text, mention := range map[string]string{
		``: "ends here", `7`: "7 is a number", `"a`: "without end", `""`: "empty", "\"a\xffb\"": "UTF-8", "\"\xed\xa0\x80\"": "UTF-8", `"\ud800"`: "half", `"\udc00a"`: "half", `"\ud83d\ud83d"`: "half", `"\ud800\u0041"`: "half", `"\u00"`: "escape", `"\u00g0"`: "escape", "\"\\u00\x110\"": "escape", `"\`: "without end", `"\"`: "without end", `"\x"`: "escape", "\"a\nb\"": "control",
		`"` + strings.Repeat("x", LongestName+1) + `"`: "longer than 1024 bytes", `"` + strings.Repeat("é", LongestName/2) + `a"`: "longer than 1024 bytes", `"` + strings.Repeat(`\u003c`, LongestName+1) + `"`: "longer than 1024 bytes",
	} {
		var s Scanner
		s.Reset([]byte(text))
		if got, err := s.Name("id"); err == nil || !strings.HasPrefix(err.Error(), "id: ") || !strings.Contains(err.Error(), mention) {
			t.Errorf("%.20s was read as %q, %v", text, got, err)
		}
	}
}

// TestNameSpellings: every way to spell a name reads as the same.
func TestNameSpellings(t *testing.T) {
	for text, want := range map[string]string{
		`"\u0041\u00e9\u00E9"`: "Aéé", `"\ud83d\ude00"`: "😀", `"\uD83D\uDE00"`: "😀", `"\/\b\f\n\r\t\"\\"`: "/\b\f\n\r\t\"\\", `"\ufffd\uffff"`: "\ufffd\uffff", `"\u0000"`: "\x00",
	} {
		var s Scanner
		s.Reset([]byte(text))
		if got, err := s.Name("id"); err != nil || got != want {
			t.Errorf("%s was read as %q, %v", text, got, err)
		}
	}
}

// TestNamed: the names of an object are read like others, as many as are allowed.
func TestNamed(t *testing.T) {
	var s Scanner
	s.Reset([]byte(`{ "a\u0062" : 1 , "é":2}`))
	got := map[string]int{}
	read := func(name string) error {
		n, err := s.Integer("tokens", 0, 5)
		got[name] = n
		return err
	}
	if err := s.Named("tokens", 2, read); err != nil || len(got) != 2 || got["ab"] != 1 || got["é"] != 2 || s.Finish("line") != nil {
		t.Errorf("%v, %v", got, err)
	}
	for text, mention := range map[string]string{`{"a":1,"b":2,"c":3}`: "more than 2", `{"a":1 "b":2}`: `","`, `{"a"1}`: `":"`, `{"a":9}`: "at most 5", `{"":1}`: "empty", `[]`: "an object is needed"} {
		s.Reset([]byte(text))
		if err := s.Named("tokens", 2, read); err == nil || !strings.Contains(err.Error(), mention) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBool(t *testing.T) {
	for text, want := range map[string]string{`true`: "true", ` false`: "false", `truth`: "", `1`: "", `"true"`: "", ``: ""} {
		var s Scanner
		s.Reset([]byte(text))
		if got, err := s.Bool("waiting"); (err == nil) != (want != "") || err == nil && strconv.FormatBool(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestBlobAndEach(t *testing.T) {
	var s Scanner
	s.Reset([]byte(` [ "" , "abc" ]`))
	var got []string
	err := s.Each("list", 2, func(int) error {
		text, err := s.Blob("item")
		got = append(got, text)
		return err
	})
	if err != nil || len(got) != 2 || got[0] != "" || got[1] != "abc" || s.Finish("line") != nil {
		t.Errorf("%q, %v", got, err)
	}
	for text, mention := range map[string]string{`["a","b","c"]`: "more than 2", `["a" "b"]`: `","`, `["a`: "without end", `7`: "a list is needed"} {
		s.Reset([]byte(text))
		if err := s.Each("list", 2, func(int) error { _, err := s.Blob("item"); return err }); err == nil || !strings.Contains(err.Error(), mention) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
