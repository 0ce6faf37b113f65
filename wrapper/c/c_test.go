package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

// programs are those in C that check the library, with their arguments, what they
// print, and arguments for a tenth of it.
var programs = []struct {
	source string
	args   []string
	prints string
	tenth  []string
}{
	{"testdata/stress.c", []string{"1000", "100000", "8"}, "1000 plans and 100000 splits by 8 threads: ok\n", []string{"100", "10000", "8"}},
	{"testdata/sessions.c", []string{"100000", "8"}, "100000 lines by 8 threads: ok\n", []string{"10000", "8"}},
}

// compiler returns gcc, or skips.
func compiler(t *testing.T) string {
	t.Helper()
	long.Only(t)
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not installed, without which there is no cgo and no C program")
	}
	if out, err := exec.Command("go", "env", "CGO_ENABLED").Output(); err != nil || strings.TrimSpace(string(out)) != "1" {
		t.Skip("cgo is switched off")
	}
	return gcc
}

// run runs a program and returns what it printed on both streams.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// compile makes a library of a folder in Go and a program in C that is linked to it.
func compile(t *testing.T, folder, source string, goFlags, cFlags []string) (program string) {
	t.Helper()
	gcc := compiler(t)
	if _, err := os.ReadFile(source); err != nil { // and so the Go tool knows that the test depends on it
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := append([]string{"build", "-buildmode=c-shared", "-o", filepath.Join(dir, "liblinked.so")}, goFlags...)
	run(t, nil, "go", append(args, folder)...)
	program = filepath.Join(dir, "program")
	args = append([]string{"-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g"}, cFlags...)
	run(t, nil, gcc, append(args, "-I", ".", "-o", program, source, "-L", dir, "-llinked", "-lpthread", "-Wl,-rpath,"+dir)...)
	return program
}

func TestCPrograms(t *testing.T) {
	for _, p := range programs {
		if got := run(t, nil, compile(t, ".", p.source, nil, nil), p.args...); got != p.prints {
			t.Errorf("%s printed %q, want %q", p.source, got, p.prints)
		}
	}
}

// TestHeader compiles the header by itself as strictly as C allows,
// and as C++ where there is a compiler for it.
func TestHeader(t *testing.T) {
	gcc := compiler(t)
	source := filepath.Join(t.TempDir(), "only.c")
	if err := os.WriteFile(source, []byte("#include \"moelb.h\"\nint main(void) { return MOELB_OK; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, gcc, "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", ".", source)
	if gpp, err := exec.LookPath("g++"); err == nil {
		run(t, nil, gpp, "-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", ".", source)
	}
}

// TestNoModules demands that the library is built from this module and the
// standard library alone, so that it can be where no module can be fetched.
func TestNoModules(t *testing.T) {
	compiler(t)
	for _, path := range strings.Fields(run(t, nil, "go", "list", "-deps", ".")) {
		first, _, _ := strings.Cut(path, "/")
		if strings.Contains(first, ".") && !strings.HasPrefix(path, "github.com/moelb/moelb/") {
			t.Errorf("it depends on %s", path)
		}
	}
}
