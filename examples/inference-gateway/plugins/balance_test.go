package plugins

import (
	"fmt"
	"slices"
	"testing"

	"github.com/moelb/moelb/decode"
)

// left returns what a picker's ledger holds, in its own requests and, with those
// that metrics tell of, in tokens.
func (p *picker) left() (requests, tokens int) {
	held, unit := p.ledger.Stats()
	for _, k := range unit.Ranks {
		requests += k.Requests
		tokens += k.KV
	}
	return max(held, requests), tokens
}

// TestBalance runs 10^5 requests through the endpoint picker's scheduler and the
// same ones through a session of the library.
func TestBalance(t *testing.T) {
	total := 100_000
	if testing.Short() {
		total = 30_000
	}
	b, err := decode.New(decode.Config{Ranks: ranks, KVCapacity: capacity})
	if err != nil {
		t.Fatal(err)
	}
	want := run(newClock(), total, -1, session{b})
	c := newClock()
	p := newPicker(t, c, ranks, `{"kvCapacity": 550000, "stepTime": "48ms"}`)
	got := run(c, total, -1, p)
	t.Logf("%d requests, %d ranks, max/mean over the ranks, mean over the steps", total, ranks)
	t.Logf("library's session     KV %.4f, requests %.4f", want.kv, want.requests)
	t.Logf("picker, scheduled     KV %.4f, requests %.4f", got.kv, got.requests)
	if !slices.Equal(got.ranks, want.ranks) {
		t.Error("the picker decided otherwise than the session")
	}
	if got.kv > 1.02*want.kv || got.requests > 1.02*want.requests {
		t.Error("more than 2% less even than the session")
	}
	if requests, tokens := p.left(); requests != 0 || tokens != 0 {
		t.Errorf("the ledger ends with %d requests and %d tokens", requests, tokens)
	}
}

// TestTwoPickers has two pickers serve one pool, each half of the requests, and
// neither knowing the other's ledger.
func TestTwoPickers(t *testing.T) {
	const total = 40_000
	const alone = `{"kvCapacity": 550000, "stepTime": "48ms"}`
	shared := func(n int) string {
		return fmt.Sprintf(`{"kvCapacity": 550000, "stepTime": "48ms", "routers": 2, "router": %d}`, n)
	}
	t.Logf("%d requests, %d ranks, max/mean over the ranks, mean over the steps", total, ranks)
	for _, v := range []struct {
		name       string
		stale      int
		parameters []string
	}{
		{"one picker", -1, []string{alone}},
		{"two, each as if alone", -1, []string{alone, alone}},
		{"two routers, no metrics", -1, []string{shared(0), shared(1)}},
		{"two routers, metrics of now", 0, []string{shared(0), shared(1)}},
		{"two routers, metrics 48 ms old", 1, []string{shared(0), shared(1)}},
		{"two routers, metrics 96 ms old", 2, []string{shared(0), shared(1)}},
		{"two routers, metrics 480 ms old", 10, []string{shared(0), shared(1)}},
	} {
		c := newClock()
		var routers []router
		for _, parameters := range v.parameters {
			routers = append(routers, newPicker(t, c, ranks, parameters))
		}
		o := run(c, total, v.stale, routers...)
		t.Logf("%-32s KV %.4f, requests %.4f", v.name, o.kv, o.requests)
		for _, r := range routers {
			if requests, tokens := r.(*picker).left(); requests != 0 || v.stale < 0 && tokens != 0 {
				t.Errorf("a ledger ends with %d requests and %d tokens", requests, tokens)
			}
		}
	}
}
