package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestName: a name that was written is read back, as encoding/json reads it.
func TestName(t *testing.T) {
	for _, name := range []string{"", "a", `say "a"`, `back\slash`, "line\nend", "é", "\x7f", "漢字", "\u2028", strings.Repeat("x", longest-1)} {
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
		``: "ends here", `7`: "7 is a number", `"a`: "without end", `"\`: "without end", `"\"`: "without end", `"\x"`: "escape", "\"a\nb\"": "control",
		`"` + strings.Repeat("x", longest+1) + `"`: "longer than 1024 bytes",
	} {
		var s Scanner
		s.Reset([]byte(text))
		if got, err := s.Name("id"); err == nil || !strings.HasPrefix(err.Error(), "id: ") || !strings.Contains(err.Error(), mention) {
			t.Errorf("%.20s was read as %q, %v", text, got, err)
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
