package pages

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestStructure: pages share one frame, answer a finger as they answer a mouse, and
// say to a keyboard and a screen reader what each part is.
func TestStructure(t *testing.T) {
	entries, err := pageFiles.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	frames := 0
	for _, e := range entries {
		b, err := pageFiles.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		frames += strings.Count(text, "<!doctype html>")
		for _, bad := range []string{"onmousemove", "onmouseleave", "<th>p", "<th>[A-Z]"} {
			if regexp.MustCompile(bad).MatchString(text) {
				t.Errorf("%s has %s", e.Name(), bad)
			}
		}
		for _, tag := range regexp.MustCompile(`<div class="scroll"[^>]*>`).FindAllString(text, -1) {
			if !strings.Contains(tag, `tabindex="0" role="region" aria-label="`) {
				t.Errorf("%s: %s cannot be reached by keyboard, or has no name", e.Name(), tag)
			}
		}
		// Each picture is named, with a table behind it, or is part of a legend.
		for _, m := range regexp.MustCompile(`<(?:svg|canvas) id="([a-zA-Z]+)"([^>]*)>`).FindAllStringSubmatch(text, -1) {
			drawn := regexp.MustCompile(`(?s)\$\("`+m[1]+`"\)|"`+m[1]+`", \d`).MatchString(text) && strings.Contains(text, "behind(") || e.Name() == "pageparts.html"
			if !strings.Contains(m[2], `aria-hidden="true"`) && !drawn {
				t.Errorf("%s: nothing stands behind picture %s", e.Name(), m[1])
			}
		}
	}
	if frames != 1 {
		t.Errorf("%d frames of pages, one is shared", frames)
	}
	for _, name := range []string{"page.html", "pagereplay.html", "pagesimulate.html"} {
		parts := regexp.MustCompile(`\{\{template "(\w+)"`).FindAllStringSubmatch(read(t, name), -1)
		var order []string
		for _, p := range parts {
			if slices.Contains([]string{"open", "top", "script", "close"}, p[1]) {
				order = append(order, p[1])
			}
		}
		if !slices.Equal(order, []string{"open", "top", "script", "close"}) {
			t.Errorf("%s is framed by %v", name, order)
		}
	}
}

func read(t *testing.T, name string) string {
	b, err := pageFiles.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
