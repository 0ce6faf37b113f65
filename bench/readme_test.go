package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// TestREADME runs every fenced block of the README and of docs: programs in Go,
// Python and C, which must print the text block that follows them, and the commands
// of console blocks, which must print what stands below them, but for times. A block
// that is none of these is an error.
func TestREADME(t *testing.T) {
	r := readREADME(t)
	for _, b := range r.blocks {
		var try func(*testing.T, fenced)
		switch b.language {
		case "go":
			try = r.goProgram
		case "python":
			try = r.pythonProgram
		case "c":
			try = r.cProgram
		case "console":
			try = r.console
		case "text":
			if !b.printed {
				t.Errorf("%s: a text block that follows no program", b.at)
			}
			continue
		default:
			t.Errorf("%s: a block of %q, which no test runs", b.at, b.language)
			continue
		}
		t.Run(fmt.Sprintf("%s in %s", b.language, b.at), func(t *testing.T) {
			t.Parallel()
			try(t, b)
		})
	}
}

// fenced is a fenced block.
type fenced struct {
	at             string // file:line
	language, text string
	prints         string // the text block that follows a program
	printed        bool   // it is such a text block
}

// readme is the README and what its blocks need.
type readme struct {
	root, dir string // of the module; of what is built
	blocks    []fenced
	command   func() (string, error) // builds the command
	library   func() (string, error) // builds the library for C as the README says
	inputs    func() (string, error) // makes a folder with the files that the commands name
}

func readREADME(t *testing.T) *readme {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	// Reading them tells the Go tool that the test depends on them.
	for _, folder := range []string{"../cmd", "../internal", "../wrapper/c", "../wrapper/python/moelb"} {
		err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				_, err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	r := &readme{root: root, dir: t.TempDir()}
	for _, page := range append([]string{"../README.md"}, pages...) {
		r.read(t, page)
	}
	r.command = sync.OnceValues(func() (string, error) {
		path := filepath.Join(r.dir, "moelb")
		return path, r.run(r.root, nil, "go", "build", "-o", path, "./cmd/moelb").err
	})
	r.library = sync.OnceValues(func() (string, error) {
		const name = "libmoelb.so"
		path := filepath.Join(r.dir, name)
		line := r.line("go build ")
		if !strings.Contains(line, " -o "+name+" ") {
			return "", fmt.Errorf("%q does not build %s", line, name)
		}
		return path, r.run(r.root, nil, "sh", "-c", strings.Replace(line, name, "'"+path+"'", 1)).err
	})
	r.inputs = sync.OnceValues(func() (string, error) {
		moelb, err := r.command()
		if err != nil {
			return "", err
		}
		stats, err := json.Marshal(map[string]any{"logical_count": workload.Experts(placement.DeepSeekV3(), 1)})
		if err != nil {
			return "", err
		}
		dir := filepath.Join(r.dir, "inputs")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, "stats.json"), stats, 0o600); err != nil {
			return "", err
		}
		return dir, r.run(dir, nil, moelb, "plan", "stats.json", "--gpus", "32", "--replicas", "288", "--out", "plan.json").err
	})
	return r
}

// read adds the blocks of a page.
func (r *readme) read(t *testing.T, page string) {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before := len(r.blocks)
	for _, m := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllSubmatchIndex(content, -1) {
		line := bytes.Count(content[:m[0]], []byte("\n")) + 1
		b := fenced{at: fmt.Sprintf("%s:%d", filepath.Base(page), line), language: string(content[m[2]:m[3]]), text: string(content[m[4]:m[5]])}
		if n := len(r.blocks); n > before && b.language == "text" && r.blocks[n-1].language != "console" && r.blocks[n-1].language != "text" {
			r.blocks[n-1].prints, b.printed = b.text, true
		}
		r.blocks = append(r.blocks, b)
	}
	if n := bytes.Count(content, []byte("\n```")); n != 2*(len(r.blocks)-before) {
		t.Fatalf("%s: %d fences, but %d blocks", page, n, len(r.blocks)-before)
	}
}

// TestREADMEIsShort: what does not fit one page stands in docs, and every page that
// the README names exists.
func TestREADMEIsShort(t *testing.T) {
	content, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(content) > 7000 {
		t.Errorf("the README has %d bytes: at most 7,000 are read in one go", len(content))
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append([]string{"../README.md"}, pages...) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllSubmatch(content, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), string(m[1]))); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}

// ran is what a program printed.
type ran struct {
	out string
	err error // with what it printed on standard error
}

func (r *readme) run(dir string, env []string, name string, args ...string) ran {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var messages bytes.Buffer
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, messages.String())
	}
	return ran{string(out), err}
}

// check demands that a program succeeds and prints what its text block says.
func (b *fenced) check(t *testing.T, r ran) {
	t.Helper()
	if r.err != nil {
		t.Fatal(r.err)
	}
	if b.prints == "" || r.out != b.prints {
		t.Errorf("the README says\n%sbut the program prints\n%s", b.prints, r.out)
	}
}

// line returns the one command of the console blocks that starts so.
func (r *readme) line(start string) string {
	for _, b := range r.blocks {
		for line := range strings.Lines(b.text) {
			if command, ok := strings.CutPrefix(line, "$ "); ok && b.language == "console" && strings.HasPrefix(command, start) {
				return strings.TrimSpace(command)
			}
		}
	}
	return ""
}

// tool skips where a program is not installed.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
}

// link skips where the library for C cannot be built, and else puts it and the
// header's folder where the README has them.
func (r *readme) link(t *testing.T, dir string) {
	t.Helper()
	tool(t, "gcc")
	if out, err := exec.Command("go", "env", "CGO_ENABLED").Output(); err != nil || strings.TrimSpace(string(out)) != "1" {
		t.Skip("cgo, which gcc is used through, is switched off")
	}
	library, err := r.library()
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{library: "libmoelb.so", filepath.Join(r.root, "wrapper"): "wrapper"} {
		if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
}

func short(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("what other tools build and run is left out of the short tests")
	}
}

func (r *readme) goProgram(t *testing.T, b fenced) {
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.check(t, r.run(r.root, nil, "go", "run", file)) // so that imports of this module are its files here
}

func (r *readme) pythonProgram(t *testing.T, b fenced) {
	long.Only(t)
	tool(t, "python3")
	dir := t.TempDir()
	r.link(t, dir)
	b.check(t, r.run(dir, []string{"PYTHONPATH=" + filepath.Join(r.root, "wrapper/python"), "PYTHONDONTWRITEBYTECODE=1",
		"MOELB_LIBRARY=" + filepath.Join(dir, "libmoelb.so")}, "python3", "-c", b.text))
}

func (r *readme) cProgram(t *testing.T, b fenced) {
	long.Only(t)
	dir := t.TempDir()
	r.link(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "program.c"), []byte(b.text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.run(dir, nil, "sh", "-c", r.line("gcc ")+" -Wall -Wextra -Werror").err; err != nil {
		t.Fatal(err)
	}
	b.check(t, r.run(dir, nil, "./a.out"))
}

// console runs the commands of a block, each in a folder of its own.
func (r *readme) console(t *testing.T, b fenced) {
	short(t)
	tool(t, "sh")
	commands := strings.Split("\n"+b.text, "\n$ ")
	if commands[0] != "" || len(commands) == 1 {
		t.Fatalf("no command is first in\n%s", b.text)
	}
	for _, c := range commands[1:] {
		line, want, _ := strings.Cut(c, "\n")
		before, args, isOurs := strings.Cut(line, "go run ./cmd/moelb ")
		isOurs = isOurs && (before == "" || strings.HasPrefix(before, "printf ") && strings.HasSuffix(before, " | "))
		switch {
		case isOurs && strings.HasPrefix(args, "replay") && !long.Tests():
			// It plans 24 windows in seven ways.
		case isOurs:
			r.ours(t, before, args, want)
		case strings.HasPrefix(line, "go test "):
			// This is one of them.
		case line == r.line("go build "), line == r.line("gcc "):
			// So are the programs in C built.
		default:
			t.Errorf("no test runs %q", line)
		}
	}
}

// ours runs the command, behind a pipe where there is one before it, and demands that
// it prints what a terminal shows.
func (r *readme) ours(t *testing.T, before, args, want string) {
	t.Helper()
	moelb, err := r.command()
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := r.inputs()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(inputs)); err != nil {
		t.Fatal(err)
	}
	if want != "" && strings.HasPrefix(args, "plan") {
		args += " --table"
	}
	if before == "" {
		args += " </dev/null"
	}
	got := r.run(dir, nil, "sh", "-c", before+"'"+moelb+"' "+args)
	if got.err != nil {
		t.Error(got.err)
		return
	}
	if want != "" && withoutTimes(got.out) != withoutTimes(want) {
		t.Errorf("the README says\n%sbut moelb %s prints\n%s", want, args, got.out)
	}
}

// withoutTimes replaces what a clock measured, and the space around it.
func withoutTimes(text string) string {
	text = regexp.MustCompile(` *\d[\d.]* (ns|µs|ms|s)\b`).ReplaceAllString(text, " #")
	return regexp.MustCompile(` +|─+`).ReplaceAllString(strings.TrimSpace(text), " ")
}
