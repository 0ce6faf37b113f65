package session

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumented: the tables of docs/wire.md name the lines of each session and their
// fields, those that must be there first, and no others.
func TestDocumented(t *testing.T) {
	content, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	_, sessions, _ := strings.Cut(string(content), "\n## A session")
	both, rest, _ := strings.Cut(sessions, "\nPrefill:\n")
	prefill, decode, _ := strings.Cut(rest, "\nDecode:\n")
	name := regexp.MustCompile("`(\\w+)`")
	names := func(cell string) (out []string) {
		for _, m := range name.FindAllStringSubmatch(cell, -1) {
			out = append(out, m[1])
		}
		slices.Sort(out)
		return out
	}
	for page, s := range map[string]*Session{prefill: NewPrefill(), decode: NewDecode()} {
		seen := map[string]bool{}
		for line := range strings.Lines(both + page) {
			cells := strings.Split(line, "|")
			if len(cells) != 5 || !strings.Contains(cells[1], "`") {
				continue
			}
			mandatory, optional, _ := strings.Cut(cells[2], "[")
			for _, op := range names(cells[1]) {
				o, ok := s.ops[op]
				seen[op] = true
				switch {
				case !ok:
					t.Errorf("%s: no such line", op)
				case op == "quote" || op == "snapshot": // those of another line; none
				case !slices.Equal(names(mandatory), slices.Sorted(slices.Values(o.mandatory))):
					t.Errorf("%s: %v, but %v are needed", op, names(mandatory), o.mandatory)
				case !slices.Equal(names(optional), slices.Sorted(slices.Values(o.optional))):
					t.Errorf("%s: [%v], but [%v] may be given", op, names(optional), o.optional)
				}
			}
		}
		for op := range maps.Keys(s.ops) {
			if !seen[op] {
				t.Errorf("%s is not documented", op)
			}
		}
	}
}
