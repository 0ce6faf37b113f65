package bench

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestREADME builds and runs every Go program in the README, demands that it
// prints the text block that follows it, and that its main is the body of an
// Example, which godoc shows.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("../eplb/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```\\s*```text\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if n := strings.Count(string(readme), "```go\n"); n == 0 || n != len(blocks) {
		t.Fatalf("%d Go programs, of which %d with the text they print after them", n, len(blocks))
	}
	for _, b := range blocks {
		program, want := b[1], b[2]
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		run := exec.CommandContext(t.Context(), "go", "run", file)
		run.Dir = ".." // so that imports of this module are its files here
		var messages bytes.Buffer
		run.Stderr = &messages
		got, err := run.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, messages.String())
		}
		if string(got) != want {
			t.Errorf("the README says\n%sbut the program prints\n%s", want, got)
		}
		_, body, found := strings.Cut(program, "func main() {\n")
		if body = strings.TrimSuffix(body, "}\n"); !found || !strings.Contains(string(examples), body) {
			t.Errorf("no Example has the body of\n%s", program)
		}
	}
}
