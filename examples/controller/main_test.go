package main

import (
	"bytes"
	"strings"
	"testing"
)

// The second failure finds the first half mended; in the end every expert lives,
// evenly, through all that happened.
func TestStory(t *testing.T) {
	var b bytes.Buffer
	if err := run(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 12 {
		t.Fatal(b.String())
	}
	for i, event := range []string{"first plan", "a node joins", "GPU 5 dies", "GPU 9 dies too", "both are back", "other traffic"} {
		say, show := lines[2*i], lines[2*i+1]
		if !strings.HasPrefix(say, event+": move ") {
			t.Error(say)
		}
		if half := event == "GPU 5 dies"; half == strings.Contains(show, "experts missing 0") || half != strings.Contains(show, "imbalance max +Inf") {
			t.Error(show)
		}
	}
}
