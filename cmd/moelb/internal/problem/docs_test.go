package problem

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumented: the first table of docs/wire.md names the fields of a problem and no
// others.
func TestDocumented(t *testing.T) {
	content, err := os.ReadFile("../../../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(content), "\nThe answer has ")
	var named []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[1], -1) {
				named = append(named, m[1])
			}
		}
	}
	fields := slices.Sorted(slices.Values(problemFields))
	if slices.Sort(named); !slices.Equal(named, fields) {
		t.Errorf("docs/wire.md has\n%v, but a problem has\n%v", named, fields)
	}
}
