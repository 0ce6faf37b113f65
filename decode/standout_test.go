package decode

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestStandouts: who stands out, and what splitting one or all would gain, against
// ledgers from which they are taken and on which their shares are put.
func TestStandouts(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	found, gained := 0, 0
	for range 300 {
		n := 2 + r.IntN(6)
		b := newBalancer(t, Config{Ranks: n, Cost: Cost{KV: 1e-6, Request: 1e-4, Step: 0.01}})
		for range n * 10 {
			kv := 1 + r.Int64N(1000)
			if r.IntN(20) == 0 {
				kv *= 30
			}
			enter(t, b, Request{KV: kv}, r.IntN(n))
		}
		step := func(kv []int64) float64 {
			width := int64(0)
			for g := range b.ranks {
				width = max(width, b.ranks[g].width)
			}
			return 0.01 + 1e-6*float64(slices.Max(kv)) + 1e-4*float64(width)
		}
		ledger := func() []int64 {
			kv := make([]int64, n)
			for g := range kv {
				kv[g] = b.kv(g)
			}
			return kv
		}
		before := []Standout{{ID: 1, KV: math.MaxInt64}}
		got, all := b.Standouts(before)
		if len(got) == 0 || got[0] != before[0] {
			t.Fatal("what dst held is gone")
		}
		got = got[1:]
		now, listed, together := step(ledger()), map[ID]bool{}, ledger()
		for i, s := range got {
			if i > 0 && got[i-1].KV < s.KV || listed[s.ID] {
				t.Fatalf("not in order, or twice: %+v", got)
			}
			listed[s.ID] = true
			alone := ledger()
			for _, kv := range [][]int64{alone, together} {
				kv[s.Rank] -= s.KV
				for g := range kv {
					kv[g] += s.KV / int64(n)
				}
			}
			if want := max(now-step(alone), 0); math.Abs(s.Split-want) > 2e-6*float64(n) {
				t.Fatalf("%+v gains %v if it is split, by the ledger %v", s, s.Split, want)
			}
			if s.Split > 0 {
				gained++
			}
		}
		if want := max(now-step(together), 0); math.Abs(all-want) > 1e-6*float64(n+len(got)) {
			t.Fatalf("all together gain %v, by the ledger %v", all, want)
		}
		for i := range b.requests {
			if q := &b.requests[i]; listed[q.id] != (1e-6*float64(q.kv(b.clock)) >= 0.01*now) {
				t.Fatalf("request of %d tokens: listed %v, a step takes %v", q.kv(b.clock), listed[q.id], now)
			}
		}
		found += len(got)
	}
	if found < 300 || gained < 100 {
		t.Errorf("%d stood out, %d gained: hardly a test", found, gained)
	}
	if got, all := newBalancer(t, Config{Ranks: 2}).Standouts(nil); len(got) > 0 || all != 0 {
		t.Errorf("of an empty unit: %v, %v", got, all)
	}
}
