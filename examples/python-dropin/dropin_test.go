// Package dropin runs the program in Python beside it.
package dropin

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

const want = `never balanced   : imbalance 1.756 on the next window, 0 moves
rebalance_experts: imbalance 1.081 on the next window, 2550 moves
EplbPolicy       : imbalance 1.096 on the next window, 201 moves
`

func TestProgram(t *testing.T) {
	long.Only(t)
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed, which the library for python is built with")
	}
	// Reading them tells the Go tool that the test depends on them.
	for _, pattern := range []string{"*.py", "../../wrapper/python/moelb/*.py", "../../wrapper/c/*", "../../eplb/*.go", "../../placement/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			os.ReadFile(f)
		}
	}
	path, err := filepath.Abs("../../wrapper/python")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "main.py")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+path, "PYTHONDONTWRITEBYTECODE=1", "XDG_CACHE_HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != want {
		t.Errorf("%v\n%swant\n%s", err, out, want)
	}
}
