package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("short: it simulates for seconds")
	}
	var b strings.Builder
	if err := run(&b, 10); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(b.String()), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[0], "moelb ") || !strings.HasPrefix(lines[1], "fewest ") {
		t.Error(b.String())
	}
}
