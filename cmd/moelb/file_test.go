package main

import (
	"os"
	"path/filepath"
	"testing"
)

// left lists what a folder holds.
func left(t *testing.T, dir string) []string {
	t.Helper()
	items, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range items {
		names = append(names, i.Name())
	}
	return names
}

func TestOut(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "plan.json")
	a := call(t, small, "plan", "--out", out).want(t, exitDone)
	if a.stdout != "" {
		t.Errorf("printed %.60q beside --out", a.stdout)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	check(t, decode[planned](t, string(b)), smallLoads, 2)
	if names := left(t, dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	// Bad input leaves the old file as it was.
	call(t, small[:30], "plan", "--out", out).want(t, exitFailed)
	if after, _ := os.ReadFile(out); string(after) != string(b) || len(left(t, dir)) != 1 {
		t.Error("bad input touched the file")
	}
	// So does a page that cannot be written... and nothing is printed then.
	call(t, small, "plan", "--html", filepath.Join(dir, "none", "x.html")).want(t, exitFailed)
	call(t, small, "plan", "--out", dir).want(t, exitFailed)
	if names := left(t, dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}
