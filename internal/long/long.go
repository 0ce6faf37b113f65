// Package long tells tests of evidence that takes long (whole traces, many seeds,
// what other tools build) whether they are to run: where the environment says
// MOELB_LONG=1, as it does in make check, and not with -short. go test ./... without
// it is done in a minute or two, and proves the same things on less.
package long

import (
	"os"
	"testing"
)

// Tests says whether long tests are to run. A test may ask it how much to try.
func Tests() bool { return os.Getenv("MOELB_LONG") == "1" && !testing.Short() }

// Only skips a test where long ones are not to run.
func Only(t testing.TB) {
	t.Helper()
	if !Tests() {
		t.Skip("takes long: only with MOELB_LONG=1, and without -short")
	}
}

// OneGoroutine skips a test under the race detector, which makes it ten times as
// long and cannot find anything: all of it happens on one goroutine.
func OneGoroutine(t testing.TB) {
	t.Helper()
	if race {
		t.Skip("runs on one goroutine: nothing for the race detector")
	}
}
