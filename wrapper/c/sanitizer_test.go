package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sanitizer skips where AddressSanitizer does not run the least of Go.
func sanitizer(t *testing.T) {
	t.Helper()
	compiler(t)
	if err := exec.CommandContext(t.Context(), "gcc", "-fsanitize=address", "-shared", "-o", filepath.Join(t.TempDir(), "empty.so"), "-x", "c", os.DevNull).Run(); err != nil {
		t.Skip("gcc comes without AddressSanitizer")
	}
	probe := compile(t, "./testdata/probe", "testdata/probe/probe.c", []string{"-asan"}, []string{"-fsanitize=address"})
	if out, err := exec.CommandContext(t.Context(), probe).CombinedOutput(); err != nil {
		t.Skipf("AddressSanitizer does not run a library in Go here: %v, %.70q", err, out)
	}
}

// sanitized builds the library and a program with AddressSanitizer, which also
// looks for leaks when the program ends. What is named by more, files in Go, is
// added to the library.
func sanitized(t *testing.T, source string, more ...string) (program string) {
	t.Helper()
	flags := []string{"-asan"}
	if len(more) > 0 {
		replace := map[string]string{}
		for _, m := range more {
			path, err := filepath.Abs(m)
			if err != nil {
				t.Fatal(err)
			}
			replace[filepath.Join(filepath.Dir(filepath.Dir(path)), filepath.Base(path))] = path
		}
		overlay, err := json.Marshal(map[string]any{"Replace": replace})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "overlay.json")
		if err := os.WriteFile(file, overlay, 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "-overlay", file)
	}
	return compile(t, ".", source, flags, []string{"-fsanitize=address"})
}

// TestSanitized demands that the library touches no memory that is not its own and
// leaves nothing that it took from C.
func TestSanitized(t *testing.T) {
	sanitizer(t)
	for _, p := range programs {
		if got := run(t, nil, sanitized(t, p.source), p.tenth...); !strings.HasSuffix(got, ": ok\n") {
			t.Errorf("%s printed %q", p.source, got)
		}
	}
}

// TestSanitizerFinds demands that what TestSanitized looks for is found, where it
// was put into the library on purpose.
func TestSanitizerFinds(t *testing.T) {
	sanitizer(t)
	for _, c := range []struct{ more, says string }{
		{"testdata/leak.go", "LeakSanitizer: detected memory leaks"},
		{"testdata/beyond.go", "AddressSanitizer: heap-buffer-overflow"},
	} {
		program := sanitized(t, "testdata/stress.c", c.more)
		out, err := exec.CommandContext(t.Context(), program, "8", "8", "8").CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) {
			t.Errorf("with %s: %v, want %q\n%s", c.more, err, c.says, out)
		}
	}
}
