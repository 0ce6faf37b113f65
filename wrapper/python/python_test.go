// Package python runs the tests of the Python package beside it.
package python

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

// cache is where the library is built, once for all tests.
var cache = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "moelb-cache") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := cache(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// interpreter returns a Python that has the modules, or skips: the one on the
// path, else the system's. MOELB_PYTHON names another.
func interpreter(t *testing.T, modules ...string) string {
	t.Helper()
	long.Only(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed, which the library for python is built with")
	}
	check := "import sys; assert sys.version_info >= (3, 9)"
	for _, m := range modules {
		check += "; import " + m
	}
	for _, p := range []string{os.Getenv("MOELB_PYTHON"), "python3", "/usr/bin/python3"} {
		if p == "" {
			continue
		}
		if err := exec.CommandContext(t.Context(), p, "-c", check).Run(); err == nil {
			return p
		}
	}
	t.Skipf("no python 3.9 with %q is installed", modules)
	return ""
}

// track reads what the programs depend on, so that the Go tool does not take a
// test's result from its cache when that has changed.
func track(t *testing.T, roots ...string) {
	t.Helper()
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if ext := filepath.Ext(path); err == nil && !d.IsDir() && (ext == ".py" || ext == ".go" || ext == ".h" || ext == ".toml") {
				_, err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// run runs Python with the package on its path and returns what it printed.
func run(t *testing.T, python string, args ...string) (stdout, stderr string) {
	t.Helper()
	track(t, ".", "../c", "../../eplb", "../../placement", "../../prefill", "../../decode", "../../internal")
	dir, err := cache()
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, args...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+here, "PYTHONDONTWRITEBYTECODE=1", "XDG_CACHE_HOME="+dir)
	var out, messages strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.String(), messages.String())
	}
	return out.String(), messages.String()
}

func unittest(t *testing.T, name string, modules ...string) {
	t.Helper()
	out, summary := run(t, interpreter(t, modules...), "-m", "unittest", "tests."+name)
	if !regexp.MustCompile(`Ran [1-9]\d* tests? in `).MatchString(summary) {
		t.Errorf("no tests were run:\n%s", summary)
	}
	t.Log(strings.TrimSpace(out + summary))
}

func TestLists(t *testing.T) { unittest(t, "test_lists") }

func TestIntegrations(t *testing.T) { unittest(t, "test_integrations") }

func TestSessions(t *testing.T) { unittest(t, "test_sessions") }

func TestNumpy(t *testing.T) { unittest(t, "test_numpy", "numpy") }

func TestTorch(t *testing.T) { unittest(t, "test_torch", "torch") }

// TestTypes checks the types that py.typed promises.
func TestTypes(t *testing.T) {
	run(t, interpreter(t, "mypy"), "-m", "mypy", "--strict", "--python-version", "3.9", "--no-site-packages", "--ignore-missing-imports", "--cache-dir", t.TempDir(), "moelb")
}

// TestInstall installs with pip, without a network and without modules fetched
// before, and uses what is there.
func TestInstall(t *testing.T) {
	python := interpreter(t, "pip")
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOMODCACHE", t.TempDir())
	dir := t.TempDir()
	run(t, python, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", "--root-user-action=ignore", "--target", dir, ".")
	for _, name := range []string{"moelb/py.typed", "moelb/__init__.py", "moelb/integrations/vllm.py"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	out, _ := run(t, python, "-c", `import sys
sys.path.insert(0, sys.argv[1])
import moelb
print(moelb.__file__.startswith(sys.argv[1]), str(moelb._library.find()).startswith(sys.argv[1]))
print(moelb.rebalance_experts([[90, 40, 30, 20, 10, 10]], 8, 1, 1, 4)[2])`, dir)
	if want := "True True\n[[3, 1, 1, 1, 1, 1]]\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}

// TestWheel makes the wheel by the documented command and uses it in a clean
// virtual environment where there is no Go.
func TestWheel(t *testing.T) {
	python := interpreter(t, "pip", "venv", "ensurepip")
	dir := t.TempDir()
	out, _ := run(t, python, "backend.py", dir)
	wheel := strings.TrimSpace(out)
	run(t, python, "-m", "venv", filepath.Join(dir, "env"))
	clean := filepath.Join(dir, "env", "bin", "python")
	t.Setenv("PATH", "/usr/bin:/bin")
	t.Setenv("MOELB_LIBRARY", "")
	run(t, clean, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", wheel)
	out, _ = run(t, clean, "-c", `import sys
sys.path = [p for p in sys.path if p and "wrapper" not in p]
import moelb, importlib.metadata
from moelb.integrations.vllm import EplbPolicy
print("env" in moelb.__file__, [e.value for e in importlib.metadata.entry_points(group="vllm.general_plugins") if e.name == "moelb"])
print(len(EplbPolicy.rebalance_experts([[90, 40, 30, 20, 10, 10]], 8, 1, 1, 4)[0]))`)
	if want := "True ['moelb.integrations.vllm:register']\n8\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}
