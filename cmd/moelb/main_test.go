package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moelb/moelb"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

var update = flag.Bool("update", false, "write the golden files anew")

// answer is what a run of the command gave.
type answer struct {
	code           int
	stdout, stderr string
}

// call runs the command in this process. stdin "" is an empty pipe.
func call(t *testing.T, stdin string, args ...string) answer {
	t.Helper()
	var out, err bytes.Buffer
	code := run(context.Background(), args, strings.NewReader(stdin), &out, &err)
	return answer{code, out.String(), err.String()}
}

// want fails the test unless the run ended with that code, and with nothing on
// standard output and one line of error where the code is not 0.
func (a answer) want(t *testing.T, code int) answer {
	t.Helper()
	if a.code != code {
		t.Fatalf("exit %d, want %d: %s", a.code, code, a.stderr)
	}
	if code != exitDone {
		if a.stdout != "" {
			t.Errorf("wrote to standard output: %.80q", a.stdout)
		}
		if strings.Count(a.stderr, "\n") != 1 || strings.TrimSpace(a.stderr) == "" {
			t.Errorf("the error is not one line: %q", a.stderr)
		}
	}
	return a
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v: %.120s", err, text)
	}
	if d.More() {
		t.Fatal("more than one value")
	}
	return v
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// golden compares with testdata/name, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew):\n%s", path, got)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"plot"}, {"help", "plot"}, {"help", "plan", "x"}, {"plan", "--gpu", "3"}, {"plan", "--gpus", "many"}, {"plan", "--gpus", "2.5"}, {"plan", "a", "b"},
		{"plan", "--policy", "best"}, {"plan", "--locality", "here"}, {"plan", "--dispatch", "odd"}, {"plan", "--format", "pdf"},
		{"plan", "--json", "--table"}, {"plan", "--json", "--format", "sglang"}, {"plan", "--example", "file"}, {"plan", "--timeout", "soon"},
		{"plan", "--timeout", "-1s"}, {"plan", "--example", "--gpus", "0"}, {"plan", "--example", "--gpus", "99999999"}, {"plan", "--workers", "-1"},
		{"plan", "--windows", "-1"}, {"plan", "--model", "gpt"}, {"plan", "--example", "--gpu-speed", "1,x"}, {"plan", "--tolerance", "NaN"},
		{"score"}, {"score", "--placement", "x"}, {"score", "x"}, {"score", "--placement", "x", "--loads", "y", "--gpus", "-1"},
		{"size", "--max-redundant", "-1"}, {"size", "--worth", "0"}, {"size", "--policy", "deepseek"}, {"split", "a", "b"}, {"split", "--frob"}, {"version", "x"},
		{"estimate"}, {"estimate", "--phase", "train"}, {"estimate", "--phase", "decode", "--gpu", "abacus"}, {"estimate", "--phase", "decode", "--batch", "NaN"},
		{"estimate", "--phase", "decode", "--tokens", "1"}, {"estimate", "--phase", "prefill", "--kv", "1"}, {"estimate", "--phase", "prefill", "--hit", "1"},
		{"estimate", "--phase", "decode", "--nodes", "-1"}, {"estimate", "--phase", "prefill", "--nodes", "99999"}, {"estimate", "--phase", "prefill", "--imbalance-experts", "0.5"},
		{"estimate", "--phase", "decode", "--imbalance-kv", "1.1", "--imbalance-attention", "1.1"}, {"estimate", "--phase", "decode", "--factors", "mine"},
		{"simulate", "x"}, {"simulate", "--scenario", "week"}, {"simulate", "--scenario", "day", "--trace", "x"}, {"simulate", "--load", "0"}, {"simulate", "--seconds", "-1"}, {"simulate", "--hit", "2"},
		{"simulate", "--gpu", "x"}, {"simulate", "--price-gpu-hour", "-1"}, {"simulate", "--decode-units", "-1"}, {"simulate", "--scenario", "deepseek-day", "--html", "x"},
	} {
		if a := call(t, "", args...).want(t, exitUsage); !strings.HasPrefix(a.stderr, "moelb: ") {
			t.Errorf("%q: %q", args, a.stderr)
		}
	}
	// What is wanted is said in words.
	for flag, wants := range map[string]string{"--gpus=1e9": "a whole number", "--gpus=99999999999999999999": "out of range", "--target=x": "a number", "--schedule=x": "true or false"} {
		if a := call(t, "", "plan", flag).want(t, exitUsage); !strings.Contains(a.stderr, wants) || strings.Contains(a.stderr, "strconv") {
			t.Errorf("%s: %q", flag, a.stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"plan", "--help"}, {"score", "--help"}, {"size", "--help"}, {"split", "--help"}, {"replay", "--help"}, {"help", "plan"}, {"help", "help"}, {"version"}, {"--version"}} {
		a := call(t, "", args...).want(t, exitDone)
		if a.stdout == "" || a.stderr != "" || len(args) == 2 && !strings.Contains(a.stdout, "Examples:\n  ") {
			t.Errorf("%q: %q %q", args, a.stdout, a.stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	if a := call(t, "", "version").want(t, exitDone); !strings.HasPrefix(a.stdout, "moelb v"+moelb.Version) {
		t.Errorf("%q", a.stdout)
	}
}

// TestBinary drives the built command as a shell does.
func TestBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command")
	}
	bin := filepath.Join(t.TempDir(), "moelb")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Without a pipe: the standard library gives a nil Stdin /dev/null.
	out, err := exec.Command(bin, "plan").Output()
	if err != nil {
		t.Fatal(err)
	}
	if p := decode[planned](t, string(out)); len(p.PhysicalToLogical) != 58 || len(p.PhysicalToLogical[0]) != 288 {
		t.Error("the built-in example is another one")
	}
	piped := func(stdin string, args ...string) answer {
		var out, errs bytes.Buffer
		c := exec.Command(bin, args...)
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &errs
		c.Run()
		return answer{c.ProcessState.ExitCode(), out.String(), errs.String()}
	}
	check(t, decode[planned](t, piped(small, "plan").want(t, exitDone).stdout), smallLoads, 2)
	check(t, decode[planned](t, piped(small, "plan", "-").want(t, exitDone).stdout), smallLoads, 2)
	piped("", "plan", "-").want(t, exitFailed)
	piped("", "plan").want(t, exitFailed)
	piped(small, "plan", "--nonsense").want(t, exitUsage)
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("sh is not installed, which closes standard input for the command")
	}
	closed := exec.Command("sh", "-c", `"$0" plan --table <&-`, bin)
	if out, err := closed.Output(); err != nil || !strings.Contains(string(out), "imbalance") {
		t.Errorf("standard input closed: %v", err)
	}
}
