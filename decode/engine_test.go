package decode

import (
	"errors"
	"strings"
	"testing"
)

// TestTiesRotate: requests that come one at a time to an idle unit use all ranks in
// turn, whatever came between.
func TestTiesRotate(t *testing.T) {
	for _, among := range [][]int{nil, {1, 3, 4}} {
		b := newBalancer(t, Config{Ranks: 5})
		var got [5]int
		for i := range 60 {
			g, err := b.Add(Request{ID: ID(i), KV: int64(100 + 37*i%900), Among: among})
			if err != nil {
				t.Fatal(err)
			}
			got[g]++
			for range i % 3 {
				b.Step()
			}
			if err := b.Done(ID(i)); err != nil {
				t.Fatal(err)
			}
		}
		want := [5]int{12, 12, 12, 12, 12}
		if among != nil {
			want = [5]int{0, 20, 0, 20, 20}
		}
		if got != want {
			t.Errorf("among %v: %v, want %v", among, got, want)
		}
	}
}

// TestWaiting: a request whose KV cache is on the way takes room, and neither runs
// nor grows nor is moved before it starts.
func TestWaiting(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 2, KVCapacity: []int64{1000}, MaxRequests: 2})
	for _, q := range []Request{{ID: 1, KV: 600, Waiting: true, Width: 2}, {ID: 2, KV: 300}} {
		if err := b.Enter(q, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 150 {
		b.Step()
	}
	if k := b.Rank(0); k.KV != 600+450 || k.Width != 3 || k.Over != 50 {
		t.Errorf("%+v", k)
	}
	for _, tokens := range []int64{1, -1, 0} {
		if err := b.Grow(1, tokens); !errors.Is(err, ErrState) {
			t.Errorf("grow by %d: %v", tokens, err)
		}
	}
	if err := b.Generated(1, 5); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	if moves, err := b.Rebalance(nil, 5); err != nil || len(moves) != 1 || moves[0].ID != 2 {
		t.Errorf("%+v, %v", moves, err)
	}
	if err := b.Start(1); err != nil {
		t.Fatal(err)
	}
	b.Step()
	if k := b.Rank(0); k.KV != 602 {
		t.Errorf("%+v", k)
	}
	if err := b.Start(1); !errors.Is(err, ErrState) {
		t.Error(err)
	}
}

// TestOverfull: where nobody has room for what a rank holds too much of, it is named
// whom to preempt, the least that suffices; where moving helps, nobody.
func TestOverfull(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 2, KVCapacity: []int64{1000, 1000}})
	for id, kv := range []int64{500, 300, 200, 100, 60} {
		enter := Request{ID: ID(id), KV: kv}
		if err := b.Enter(enter, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Enter(Request{ID: 9, KV: 990}, 1); err != nil {
		t.Fatal(err)
	}
	if got := b.Overfull(nil); len(got) != 2 || got[0]+got[1] != 3+4 {
		t.Errorf("%v of 1160 on 1000", got) // 60 and 100
	}
	if err := b.Cancel(9); err != nil {
		t.Fatal(err)
	}
	if got := b.Overfull(nil); len(got) > 0 {
		t.Errorf("%v where a rank is empty", got)
	}
	moves, err := b.Rebalance(nil, 1)
	if err != nil || len(moves) != 1 || moves[0].ID != 2 || moves[0].To != 1 {
		t.Errorf("%+v, %v: the smallest that suffices is 2", moves, err)
	}
}

// TestOverfullSparesWhoIsNeedless: of several that would do, none is named whom the
// others make needless; and nobody is moved where he may not be.
func TestOverfullSparesWhoIsNeedless(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 2, KVCapacity: []int64{1000, 1000}})
	for id, kv := range []int64{10, 60, 100, 920} {
		if err := b.Enter(Request{ID: ID(id), KV: kv, Among: []int{0}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Overfull(nil); len(got) != 1 || got[0] != 2 {
		t.Errorf("%v, though 2 suffices", got)
	}
	if moves, err := b.Rebalance(nil, 4); err != nil || len(moves) > 0 {
		t.Errorf("%+v, %v", moves, err)
	}
	// With the last request of a prefix the prefix goes too.
	b = newBalancer(t, Config{Ranks: 1, KVCapacity: []int64{120}})
	for id, r := range []Request{{KV: 93, Prefix: 1, Shared: 36}, {KV: 175, Prefix: 2, Shared: 39}} {
		if r.ID = ID(id); b.Enter(r, 0) != nil {
			t.Fatal(id)
		}
	}
	if got := b.Overfull(nil); len(got) != 1 || got[0] != 1 {
		t.Errorf("%v, though 1 suffices", got)
	}
}

// TestOldEpoch: a report of an epoch that is over is an error and changes nothing.
func TestOldEpoch(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, Routers: 2})
	if err := b.Report(Report{KV: 500, Requests: 1, Epoch: 3}); err != nil {
		t.Fatal(err)
	}
	for epoch := range uint64(3) {
		if err := b.Report(Report{KV: 9000, Requests: 9, Epoch: epoch}); !errors.Is(err, ErrState) || b.Rank(0).KV != 500 {
			t.Errorf("epoch %d: %v, %+v", epoch, err, b.Rank(0))
		}
	}
	if err := b.Report(Report{KV: 700, Requests: 1, Epoch: 3}); err != nil || b.Rank(0).KV != 700 {
		t.Errorf("%v, %+v", err, b.Rank(0))
	}
}

// TestSnapshotSums: a state whose sums are not what its requests add up to is
// refused.
func TestSnapshotSums(t *testing.T) {
	for _, bend := range []func(b *Balancer){func(b *Balancer) { b.base[0]++ }, func(b *Balancer) { b.ranks[0].width++ }} {
		b := newBalancer(t, Config{Ranks: 2})
		if err := b.Enter(Request{ID: 1, KV: 50}, 0); err != nil {
			t.Fatal(err)
		}
		bend(b)
		if _, err := FromSnapshot(b.AppendSnapshot(nil)); !errors.Is(err, ErrSnapshot) {
			t.Error(err)
		}
	}
	if _, err := FromSnapshot([]byte("moelb decode 1\n and what follows")); !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "version 1") {
		t.Error(err)
	}
}

// TestSharedOnce: samples of one prompt are together and hold it once.
func TestSharedOnce(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 4, KVCapacity: []int64{100_000}})
	for p := range 16 {
		for i := range 8 {
			if _, err := b.Add(Request{ID: ID(8*p + i), KV: int64(4000 + 10*i), Prefix: uint64(p), Shared: 4000}); err != nil {
				t.Fatal(err)
			}
		}
	}
	sum := int64(0)
	for g := range 4 {
		sum += b.Rank(g).KV
	}
	if least := int64(16 * (4000 + 10*28)); sum*100 > least*115 {
		t.Errorf("%d tokens are held, %d at least", sum, least)
	}
}

// TestUnlikeRanks: what a rank holds follows its capacity, what it runs its speed.
func TestUnlikeRanks(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 3, Speed: []float64{1, 2, 0}, KVCapacity: []int64{0, 0, 500}})
	for i := range 300 {
		if g, err := b.Add(Request{ID: ID(i), KV: 1000}); err != nil || g == 2 || g < 0 {
			t.Fatal(g, err)
		}
	}
	if x, y := b.Rank(0).Requests, b.Rank(1).Requests; x != 100 || y != 200 {
		t.Errorf("%d and %d requests at speeds of 1 and 2", x, y)
	}
	if err := b.Resize(5); err != nil {
		t.Fatal(err)
	}
	if k := b.Rank(4); k.Capacity != 500 || b.ranks[4].open() {
		t.Errorf("a new rank is not like the last: %+v", k)
	}
}
