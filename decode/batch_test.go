package decode

import (
	"math/rand/v2"
	"testing"
)

// best is the least step time that any assignment of the requests gives.
func best(b *Balancer, requests []Request) float64 {
	kv, width := make([]int64, len(b.ranks)), make([]int64, len(b.ranks))
	for g := range b.ranks {
		kv[g], width[g] = b.kv(g), b.ranks[g].width
	}
	least := -1.0
	var try func(i int)
	try = func(i int) {
		if i == len(requests) {
			k, w := int64(0), int64(0)
			for g := range kv {
				k, w = max(k, kv[g]), max(w, width[g])
			}
			c := b.cfg.Cost
			if t := c.Step + c.KV*float64(k) + c.Request*float64(w); least < 0 || t < least {
				least = t
			}
			return
		}
		for g := range kv {
			kv[g] += requests[i].KV
			width[g]++
			try(i + 1)
			kv[g] -= requests[i].KV
			width[g]--
		}
	}
	try(0)
	return least
}

// TestBatchAgainstExhaustive: on tiny units, the step time after a batch is close
// to the best that any assignment gives. Joint placement looks further than the
// next step, so it need not be equal.
func TestBatchAgainstExhaustive(t *testing.T) {
	cases := 400
	if testing.Short() {
		cases = 60
	}
	r := rand.New(rand.NewPCG(21, 22))
	worst, sum, exact := 0.0, 0.0, 0
	for range cases {
		n := 2 + r.IntN(3)
		b := newBalancer(t, Config{Ranks: n})
		for range n * 8 {
			if _, _, err := add(b, Request{KV: 1000 + r.Int64N(8000)}); err != nil {
				t.Fatal(err)
			}
		}
		batch := make([]Request, 1+r.IntN(6))
		for i := range batch {
			batch[i] = Request{ID: 1<<40 + ID(i), KV: 500 + r.Int64N(12_000)}
		}
		least := best(b, batch)
		if _, err := b.Batch(nil, batch); err != nil {
			t.Fatal(err)
		}
		over := b.StepSeconds()/least - 1
		sum += over
		worst = max(worst, over)
		if over < 1e-9 {
			exact++
		}
	}
	t.Logf("%d cases: %d at the optimum, %.3f%% above it on average, %.2f%% at worst", cases, exact, 100*sum/float64(cases), 100*worst)
	if sum/float64(cases) > 0.005 || worst > 0.03 {
		t.Errorf("%.3f%% above the optimum on average, %.2f%% at worst", 100*sum/float64(cases), 100*worst)
	}
}

// TestBatchKeepsOrder: assignments stand in the order of the requests, and a
// batch of one is placed.
func TestBatchKeepsOrder(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 8})
	r := rand.New(rand.NewPCG(23, 24))
	for turn := range 200 {
		batch := make([]Request, 1+r.IntN(40))
		for i := range batch {
			batch[i] = Request{ID: ID(turn<<8 + i), KV: 1 + r.Int64N(10_000)}
		}
		before := []int{-9}
		got, err := b.Batch(before, batch)
		if err != nil || len(got) != len(batch)+1 || got[0] != before[0] {
			t.Fatalf("%d assignments, %v", len(got), err)
		}
		for i, rank := range got[1:] {
			kv, err := b.KV(batch[i].ID)
			if err != nil || kv != batch[i].KV {
				t.Fatalf("request %d of %d tokens is %d with %d tokens: %v", i, batch[i].KV, batch[i].ID, kv, err)
			}
			if g, err := b.Where(batch[i].ID); err != nil || g != rank {
				t.Fatalf("request %d on rank %d, said %d", i, g, rank)
			}
		}
		for _, q := range batch {
			if r.IntN(3) > 0 {
				if err := b.Done(q.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.Step()
	}
	recompute(t, b)
}

// TestBatchCountsWhoIsLeft: of a batch each request is counted once, placed or still
// to come, so that counts come out even where that costs no more KV than a request.
func TestBatchCountsWhoIsLeft(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 2})
	var requests []Request
	for i, kv := range []int64{5000, 1000, 1000, 1000, 1000, 1000} {
		requests = append(requests, Request{ID: ID(i), KV: kv})
	}
	if _, err := b.Batch(nil, requests); err != nil || b.Rank(0).Requests != 3 {
		t.Errorf("%v, %d and %d requests", err, b.Rank(0).Requests, b.Rank(1).Requests)
	}
}
