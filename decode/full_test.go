package decode

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFullUnit: while nothing is known of outputs and most ranks are expected to be
// full, those that are not run hardly more than an even spread: what is over waits
// until more is known. Where a few ranks are full, the others take what comes.
func TestFullUnit(t *testing.T) {
	const ranks, requests, capacity = 32, 40, 180_000
	for _, full := range []int{0, 5} {
		for _, joint := range []bool{true, false} {
			r := rand.New(rand.NewPCG(41, 42))
			b := newBalancer(t, Config{Ranks: ranks, KVCapacity: []int64{capacity}})
			done := func(ids ...ID) {
				for _, id := range ids {
					if err := b.Done(id); err != nil {
						t.Fatal(err)
					}
				}
			}
			for id := range ID(40 * full) { // outputs are short
				if err := b.Enter(Request{ID: id}, 0); err != nil {
					t.Fatal(err)
				}
			}
			b.Step()
			for id := range ID(40 * full) {
				done(id)
			}
			for g := range full {
				if err := b.Enter(Request{ID: ID(g), KV: capacity - 2000}, g); err != nil {
					t.Fatal(err)
				}
			}
			come := make([]Request, ranks*requests)
			for i := range come {
				come[i] = Request{ID: 1000 + ID(i), KV: min(int64(900/math.Pow(r.Float64(), 1/1.2)), 130_000)}
			}
			slices.SortFunc(come, func(a, b Request) int { return cmp.Compare(b.KV, a.KV) })
			ends, most, steps := map[int][]ID{}, 0, 0
			for ; len(come) > 0 && steps < 200; steps++ {
				done(ends[steps]...)
				held := come[:0:0]
				for part := range slices.Chunk(come, 64) {
					ranks, err := []int(nil), error(nil)
					if joint {
						ranks, err = b.Batch(nil, part)
					}
					for i := range part {
						if !joint {
							g := Full
							g, err = b.Add(part[i])
							ranks = append(ranks, g)
						}
						if err != nil {
							t.Fatal(err)
						}
						if ranks[i] == Full {
							held = append(held, part[i])
							continue
						}
						life := 5 + r.IntN(100)
						if r.IntN(3) == 0 {
							life = 3000
						}
						ends[steps+life] = append(ends[steps+life], part[i].ID)
					}
				}
				come = held
				for g := range ranks {
					most = max(most, b.Rank(g).Requests)
				}
				b.Step()
			}
			if full > 0 && steps > 1 {
				t.Errorf("joint %v: it takes %d steps until all are placed beside %d full ranks", joint, steps, full)
			}
			if full == 0 && (most > requests*5/4 || steps == 1 || steps > 100) {
				t.Errorf("joint %v: %d requests on a rank, of %d each, all placed after %d steps", joint, most, requests, steps)
			}
		}
	}
}

// TestFullUnitTakesItsShare: beside full ranks one takes as many as an even spread has,
// however few run there and elsewhere.
func TestFullUnitTakesItsShare(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 4, KVCapacity: []int64{100_000}, Cost: Cost{Request: 1}})
	for g, kv := range []int64{99_900, 99_900, 99_900, 10} {
		if err := b.Enter(Request{ID: ID(g), KV: kv}, g); err != nil {
			t.Fatal(err)
		}
	}
	come := make([]Request, 8)
	for i := range come {
		come[i] = Request{ID: 10 + ID(i), KV: 100}
	}
	if _, err := b.Batch(nil, come); err != nil {
		t.Fatal(err)
	}
	if n := b.Rank(3).Requests; n != 3 {
		t.Errorf("%d requests on the rank that has room, of 12 on 4 ranks", n)
	}
}

// TestMovesOffServingRank: a drained rank that holds as much is not the fullest.
func TestMovesOffServingRank(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 3})
	for id := range ID(4) {
		if err := b.Enter(Request{ID: id, KV: 50_000, Output: 10_000}, int(id)/2); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Drain(0); err != nil {
		t.Fatal(err)
	}
	if m, err := b.Rebalance(nil, 1); err != nil || len(m) != 1 || m[0].From != 1 || m[0].To != 2 {
		t.Errorf("%+v, %v", m, err)
	}
}
