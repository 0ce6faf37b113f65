package console_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
)

// TestInterrupt: the first interrupt ends a search, not the program.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot interrupt itself there")
	}
	ctx, release := console.Searching(context.Background(), time.Minute)
	defer release()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the search goes on")
	}
}

func TestWriteFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes and links of Unix")
	}
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := os.WriteFile(real, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if err := console.WriteFile("--out", link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(real); string(b) != "new" {
		t.Errorf("the link's target holds %q", b)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if info, _ := os.Stat(real); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := console.WriteFile("--out", "/dev/null", []byte("x")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Fatal("/dev/null was replaced")
	}
	if items, err := os.ReadDir(dir); err != nil || len(items) != 2 {
		t.Errorf("left behind: %v", items)
	}
	if err := console.WriteFile("--out", dir, nil); err == nil || !strings.Contains(err.Error(), "--out") {
		t.Errorf("a folder: %v", err)
	}
}

// TestWriteFileLinks writes where links lead that lead to nothing yet.
func TestWriteFileLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links of Unix")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(at("there/deep"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, x := range [][2]string{{"there/deep", "here"}, {"../to", "there/deep/link"}, {at("here/link"), "first"}, {"none/file", "lost"}} {
		if err := os.Symlink(x[0], at(x[1])); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := console.WriteFile("--out", at("first"), []byte("new")); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(at("there/to")); string(b) != "new" {
			t.Fatalf("where the links lead is %q", b)
		}
		for _, link := range []string{"first", "there/deep/link"} {
			if info, err := os.Lstat(at(link)); err != nil || info.Mode()&os.ModeSymlink == 0 {
				t.Errorf("%s was replaced", link)
			}
		}
	}
	if err := console.WriteFile("--out", at("lost"), nil); err == nil {
		t.Error("written into a folder that is not there")
	}
	if items, _ := os.ReadDir(at("there")); len(items) != 2 {
		t.Errorf("left behind: %v", items)
	}
}
