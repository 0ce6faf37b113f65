package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

// programs are those in C that check the library, with their arguments and what
// they print.
var programs = []struct {
	source string
	args   []string
	prints string
}{
	{"testdata/stress.c", []string{"1000", "100000", "8"}, "1000 plans and 100000 splits by 8 threads: ok\n"},
	{"testdata/sessions.c", []string{"100000", "8"}, "100000 lines by 8 threads: ok\n"},
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

// build makes the library in a folder and a program in C that is linked to it.
func build(t *testing.T, source string, goFlags ...string) (program string) {
	t.Helper()
	gcc := compiler(t)
	if _, err := os.ReadFile(source); err != nil { // and so the Go tool knows that the test depends on it
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := append([]string{"build", "-buildmode=c-shared", "-o", filepath.Join(dir, "libmoelb.so")}, goFlags...)
	run(t, nil, "go", append(args, ".")...)
	program = filepath.Join(dir, "program")
	run(t, nil, gcc, "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-I", ".", "-o", program, source, "-L", dir, "-lmoelb", "-lpthread", "-Wl,-rpath,"+dir)
	return program
}

// valgrind returns the arguments that run a program under it, or skips.
func valgrind(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("valgrind")
	if err != nil {
		t.Skip("valgrind is not installed, beside gcc")
	}
	return path
}

func TestCPrograms(t *testing.T) {
	for _, p := range programs {
		if got := run(t, nil, build(t, p.source), p.args...); got != p.prints {
			t.Errorf("%s printed %q, want %q", p.source, got, p.prints)
		}
	}
}

// underValgrind runs each program and hands over what valgrind says. Programs run
// beside each other: valgrind uses one core.
func underValgrind(t *testing.T, goFlags, flags []string, says func(t *testing.T, out string)) {
	tool := valgrind(t)
	for _, p := range programs {
		t.Run(strings.TrimSuffix(filepath.Base(p.source), ".c"), func(t *testing.T) {
			t.Parallel()
			args := append(slices.Clone(flags), build(t, p.source, goFlags...))
			args = append(args, p.args...)
			says(t, run(t, []string{"GODEBUG=asyncpreemptoff=1"}, tool, args...))
		})
	}
}

// TestNoInvalidAccess demands that valgrind finds nothing. Built with its tag,
// Go tells valgrind of its heap and its stacks; only its preemption by signals,
// which saves registers beyond the stack that valgrind knows of, is switched off.
func TestNoInvalidAccess(t *testing.T) {
	t.Parallel()
	underValgrind(t, []string{"-tags", "valgrind"}, []string{"--error-exitcode=9", "--leak-check=no"}, func(t *testing.T, out string) {
		if !strings.Contains(out, "ERROR SUMMARY: 0 errors from 0 contexts") {
			t.Error(out)
		}
	})
}

// TestNoLeak demands that nothing the library took from C is left. Without the
// tag valgrind does not see what Go's collector owns, and takes the switching of
// Go's stacks for errors, which are not looked at here.
func TestNoLeak(t *testing.T) {
	t.Parallel()
	flags := []string{"--undef-value-errors=no", "--leak-check=full", "--show-leak-kinds=all", "--suppressions=testdata/go.supp"}
	underValgrind(t, nil, flags, func(t *testing.T, out string) {
		for _, kind := range []string{"definitely lost", "indirectly lost", "possibly lost", "still reachable"} {
			if !regexp.MustCompile(kind + `: +0 bytes in 0 blocks`).MatchString(out) {
				t.Errorf("%s: not 0 bytes\n%s", kind, out[strings.Index(out, "HEAP SUMMARY"):])
				return
			}
		}
	})
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
