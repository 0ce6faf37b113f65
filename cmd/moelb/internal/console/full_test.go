//go:build unix

package console_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
)

// TestWriteFileFull: where there is no room, the old file stays, nothing stays beside it,
// and the error names the file that was asked for.
func TestWriteFileFull(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "plan.json")
	if err := console.WriteFile("--out", path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	small := limit
	small.Cur = 1 << 12
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	err := console.WriteFile("--out", path, make([]byte, 1<<16))
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); e != nil {
		t.Fatal(e)
	}
	if err == nil || !strings.HasPrefix(err.Error(), "--out: write "+path+": ") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(path); string(b) != "old" {
		t.Errorf("the file holds %d bytes: %v", len(b), err)
	}
	if items, _ := os.ReadDir(dir); len(items) != 1 {
		t.Errorf("left behind: %v", items)
	}
}
