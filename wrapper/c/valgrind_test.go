package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// probed is whether valgrind runs the least of Go, once it has been tried.
var (
	probe  sync.Once
	probed error
)

// valgrind returns where it is, or skips: where it is not installed, and where it
// does not run the least of Go, as older ones do not on processors whose
// instructions they do not know. AddressSanitizer is the check that counts.
func valgrind(t *testing.T) string {
	t.Helper()
	compiler(t)
	path, err := exec.LookPath("valgrind")
	if err != nil {
		t.Skip("valgrind is not installed")
	}
	probe.Do(func() {
		cmd := exec.CommandContext(t.Context(), path, "-q", compile(t, "./testdata/probe", "testdata/probe/probe.c", nil, nil))
		cmd.Env = append(cmd.Environ(), preemption)
		probed = cmd.Run()
	})
	if probed != nil {
		t.Skipf("valgrind does not run a library in Go here: %v", probed)
	}
	return path
}

// preemption by signals saves registers beyond the stack that valgrind knows of.
const preemption = "GODEBUG=asyncpreemptoff=1"

// underValgrind runs each program, a tenth of it, and hands over what valgrind
// says. Programs run beside each other: valgrind uses one core.
func underValgrind(t *testing.T, goFlags, flags []string, says func(t *testing.T, out string)) {
	tool := valgrind(t)
	for _, p := range programs {
		t.Run(strings.TrimSuffix(filepath.Base(p.source), ".c"), func(t *testing.T) {
			t.Parallel()
			args := append(slices.Clone(flags), compile(t, ".", p.source, goFlags, nil))
			says(t, run(t, []string{preemption}, tool, append(args, p.tenth...)...))
		})
	}
}

// TestValgrindAccess demands that valgrind finds nothing. Built with its tag, Go
// tells valgrind of its heap and its stacks.
func TestValgrindAccess(t *testing.T) {
	t.Parallel()
	underValgrind(t, []string{"-tags", "valgrind"}, []string{"--error-exitcode=9", "--leak-check=no"}, func(t *testing.T, out string) {
		if !strings.Contains(out, "ERROR SUMMARY: 0 errors from 0 contexts") {
			t.Error(out)
		}
	})
}

// TestValgrindLeak demands that nothing the library took from C is left. Without
// the tag valgrind does not see what Go's collector owns, and takes the switching
// of Go's stacks for errors, which are not looked at here.
func TestValgrindLeak(t *testing.T) {
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
