package main

import (
	"log"
	"os"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/prefill"
)

func Example() {
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// alike on all ranks:   a step takes 205 ms (median), 374 ms (99%); first tokens after 0.50 s (median), 10.48 s (99%)
	// what decode leaves:   a step takes 150 ms (median), 150 ms (99%); first tokens after 0.44 s (median), 10.78 s (99%)
}

// TestLedgersAgree: whatever runs is in both ledgers, on the same rank, and at the end
// neither holds anything.
func TestLedgersAgree(t *testing.T) {
	e, err := newEngine(workload.Chat(200, 2))
	if err != nil {
		t.Fatal(err)
	}
	for i := range e.requests {
		if err := e.prompts.Enqueue(prefill.Request{ID: prefill.ID(i), Tokens: int64(e.requests[i].Input)}); err != nil {
			t.Fatal(err)
		}
	}
	for steps := 0; len(e.first) < 200 || len(e.running.Known(nil)) > 0; steps++ {
		if err := e.step(e.budgets()); err != nil {
			t.Fatal(err)
		}
		for _, id := range e.running.Known(nil) {
			g, err := e.running.Where(id)
			h, err2 := e.prompts.Where(prefill.ID(id))
			if err != nil || err2 != nil || g != h {
				t.Fatalf("request %d decodes on rank %d (%v), its prompt's KV is on %d (%v)", id, g, err, h, err2)
			}
		}
		if steps == 20_000 {
			t.Fatal("it does not end")
		}
	}
	for g := range ranks {
		if p, d := e.prompts.Rank(g), e.running.Rank(g); p.KV != 0 || d.KV != 0 {
			t.Errorf("rank %d keeps %d and %d tokens", g, p.KV, d.KV)
		}
	}
}
