package plugins

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/long"
)

// left returns what a picker's ledger holds, in its own requests and, with those
// that metrics tell of, in tokens.
func (p *picker) left() (requests, tokens int) {
	held, unit := p.ledger.Stats()
	for _, k := range unit.Ranks {
		requests += k.Requests
		tokens += int(k.KV)
	}
	return max(held, requests), tokens
}

// TestBalance runs 10^5 requests through the endpoint picker's scheduler and the
// same ones through a session of the library.
func TestBalance(t *testing.T) {
	total := 30_000
	if long.Tests() {
		total = 100_000
	}
	b, err := decode.New(decode.Config{Ranks: ranks, KVCapacity: []int64{capacity}})
	if err != nil {
		t.Fatal(err)
	}
	want := run(newClock(), total, -1, &session{Balancer: b})
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

// TestPickersSideBySide has several pickers serve one pool, each its part of the
// requests and none knowing another's ledger: either as if it were alone, or knowing
// of the others, by what the endpoints' metrics say.
func TestPickersSideBySide(t *testing.T) {
	long.Only(t)
	const total = 100_000
	t.Logf("%d requests, %d ranks, max/mean over the ranks, mean over the steps", total, ranks)
	type variant struct {
		name         string
		pickers      int
		routers      bool
		stale        int     // steps of 48 ms; -1 = no metrics
		kv, requests float64 // at most
	}
	variants := []variant{
		{"one picker", 1, false, -1, 1.05, 1.03},
		{"two, each as if alone", 2, false, -1, 1.07, 1.04},
		{"two routers, no metrics", 2, true, -1, 1.15, 1.1},
		{"two routers, metrics of now", 2, true, 0, 1.07, 1.03},
		{"two routers, metrics 48 ms old", 2, true, 1, 1.07, 1.03},
		{"two routers, metrics 96 ms old", 2, true, 2, 1.075, 1.03},
		{"two routers, metrics 480 ms old", 2, true, 10, 1.08, 1.04},
		{"four, each as if alone", 4, false, -1, 1.11, 1.06},
		{"four routers, metrics of now", 4, true, 0, 1.08, 1.04},
		{"four routers, metrics 48 ms old", 4, true, 1, 1.09, 1.04},
		{"four routers, metrics 96 ms old", 4, true, 2, 1.1, 1.04},
	}
	outcomes := make([]outcome, len(variants))
	routers := make([][]router, len(variants))
	var wg sync.WaitGroup
	for i, v := range variants {
		c := newClock()
		for n := range v.pickers {
			parameters := `{"kvCapacity": 550000, "stepTime": "48ms"}`
			if v.routers {
				parameters = fmt.Sprintf(`{"kvCapacity": 550000, "stepTime": "48ms", "routers": %d, "router": %d}`, v.pickers, n)
			}
			routers[i] = append(routers[i], newPicker(t, c, ranks, parameters))
		}
		wg.Go(func() { outcomes[i] = run(c, total, v.stale, routers[i]...) })
	}
	wg.Wait()
	for i, v := range variants {
		o := outcomes[i]
		t.Logf("%-32s KV %.4f, requests %.4f", v.name, o.kv, o.requests)
		if o.kv > v.kv || o.requests > v.requests {
			t.Errorf("%s: KV %.4f and requests %.4f, at most %v and %v wanted", v.name, o.kv, o.requests, v.kv, v.requests)
		}
		for _, r := range routers[i] {
			if requests, tokens := r.(*picker).left(); requests != 0 || !v.routers && tokens != 0 {
				t.Errorf("%s: a ledger ends with %d requests and %d tokens", v.name, requests, tokens)
			}
		}
	}
}
