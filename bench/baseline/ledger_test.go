package baseline

import (
	"testing"

	"github.com/moelb/moelb/decode"
)

// TestLedgerWaits: a request waits until the step after it was placed, then runs, and
// takes what it is counted as with it.
func TestLedgerWaits(t *testing.T) {
	for _, p := range DecodePolicies() {
		l := p.New(1, 1<<20, 1)
		add := func(id decode.ID) {
			if _, err := l.Add(decode.Request{ID: id, KV: 10}); err != nil {
				t.Fatal(err)
			}
		}
		done := func(id decode.ID) {
			if err := l.Done(id); err != nil {
				t.Fatal(err)
			}
		}
		add(1)
		add(2)
		done(2) // while it waits
		l.Step()
		add(3)
		if l.running[0] != 1 || l.waiting[0] != 1 || l.kv[0] != 11 || l.tokens[0] != 21 {
			t.Errorf("%s: %d run and %d wait, %d and %d tokens", p.Name, l.running[0], l.waiting[0], l.kv[0], l.tokens[0])
		}
		done(1)
		if l.running[0] != 0 || l.waiting[0] != 1 || l.kv[0] != 0 || l.tokens[0] != 10 {
			t.Errorf("%s: %d run and %d wait, %d and %d tokens are left", p.Name, l.running[0], l.waiting[0], l.kv[0], l.tokens[0])
		}
	}
}
