package moelb_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/moelb/moelb"
)

// The changelog has this version on top, and Python's wheel takes it from here.
func TestVersion(t *testing.T) {
	log, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	first := regexp.MustCompile(`(?m)^## (\S+)`).FindSubmatch(log)
	if first == nil || string(first[1]) != moelb.Version {
		t.Errorf("the changelog starts with %q, the version is %s", first, moelb.Version)
	}
	backend, err := os.ReadFile("wrapper/python/backend.py")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("moelb.go")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`re\.search\(r'(.*)', `).FindSubmatch(backend)
	if want == nil {
		t.Fatal("the wheel's version comes from elsewhere")
	}
	if v := regexp.MustCompile(string(want[1])).FindSubmatch(source); v == nil || string(v[1]) != moelb.Version {
		t.Errorf("the wheel's version is %q", v)
	}
	if strings.Count(moelb.Version, ".") != 2 {
		t.Errorf("version %q", moelb.Version)
	}
}
