package prefill_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/prefill"
)

// engineRank is a rank as it reports: what it has, and the newest order it has seen
// of each router.
type engineRank struct {
	work  prefill.Work
	epoch uint64
	seen  [3]uint64
}

// TestReportsThatLie: two routers place 800 requests each on one unit, whose reports
// come 128 orders late, stay what they were, come in another order, are dropped, or
// are of ranks that were started again. No rank gets more than 1.5 times its share.
func TestReportsThatLie(t *testing.T) {
	const ranks, routers, requests = 8, 2, 800
	for _, how := range []string{"at once", "late", "frozen", "reordered", "dropped", "restarted", "router restored"} {
		for seed := range uint64(4) {
			r := rand.New(rand.NewPCG(seed, 31))
			var unit [ranks]engineRank
			var past [][ranks]engineRank
			var bs [routers]*prefill.Balancer
			for i := range bs {
				b, err := prefill.New(prefill.Config{Ranks: ranks, Routers: routers, Router: i})
				if err != nil {
					t.Fatal(err)
				}
				bs[i] = b
			}
			saved := bs[0].AppendSnapshot(nil)
			got := [ranks]int{}
			type sent struct {
				router, rank int
				id           prefill.ID
				work         prefill.Work
				epoch        uint64
			}
			var running []sent
			for n := range routers * requests {
				i := n % routers
				if how == "router restored" && i == 0 && n%200 == 0 && n > 0 {
					b, err := prefill.FromSnapshot(saved)
					if err != nil {
						t.Fatal(err)
					}
					bs[0] = b
					for k := len(running) - 1; k >= 0; k-- { // what it has forgotten ends by itself
						if _, err := b.Where(running[k].id); err != nil && running[k].router == 0 {
							running[k].router = -1
						}
					}
				}
				if n%200 == 150 {
					saved = bs[0].AppendSnapshot(nil)
				}
				past = append(past, unit)
				for g := range ranks {
					u := unit[g]
					switch how {
					case "late":
						u = past[max(0, n-128)][g]
					case "frozen":
						u = past[min(n, 100)][g]
					case "reordered":
						u = past[max(0, n-r.IntN(64))][g]
					case "dropped":
						if r.IntN(10) > 0 {
							continue
						}
					}
					report := prefill.Report{Rank: g, Epoch: u.epoch, Version: u.seen[i], Work: u.work}
					if err := bs[i].Report(report); err != nil && !errors.Is(err, prefill.ErrState) {
						t.Fatal(err)
					}
				}
				tokens := 500 + r.Int64N(3000)
				id := prefill.ID(n)
				g, err := bs[i].Add(prefill.Request{ID: id, Tokens: tokens})
				if err != nil || g < 0 {
					t.Fatal(g, err)
				}
				got[g]++
				u := &unit[g]
				w := prefill.WorkOf(tokens, 0)
				u.work.Tokens, u.work.Pairs = u.work.Tokens+w.Tokens, u.work.Pairs+w.Pairs
				u.seen[i] = bs[i].Version(g)
				running = append(running, sent{i, g, id, w, u.epoch})
				if len(running) > 6*ranks {
					k := r.IntN(len(running))
					x := running[k]
					running = append(running[:k], running[k+1:]...)
					u := &unit[x.rank]
					if x.epoch == u.epoch {
						u.work.Tokens, u.work.Pairs = u.work.Tokens-x.work.Tokens, u.work.Pairs-x.work.Pairs
					}
					if x.router >= 0 {
						if err := bs[x.router].Done(x.id); err != nil {
							t.Fatal(err)
						}
						u.seen[x.router] = bs[x.router].Version(x.rank)
					}
				}
				if how == "restarted" && n%100 == 99 { // it has lost what it had and seen; its routers hear of it by and by
					u := &unit[r.IntN(ranks)]
					*u = engineRank{epoch: u.epoch + 1}
				}
			}
			most := 0
			for _, k := range got {
				most = max(most, k)
			}
			share := float64(most) * ranks / routers / requests
			t.Logf("%s, seed %d: %.2f times its share at most", how, seed, share)
			if share > 1.5 {
				t.Errorf("%s, seed %d: a rank gets %.2f times its share: %d", how, seed, share, got)
			}
		}
	}
}

// TestReportSaysWhatDoesNotFit: a version that was never ordered is an error, but from
// a rank's first report, in a new epoch, and after a restart from a snapshot.
func TestReportSaysWhatDoesNotFit(t *testing.T) {
	b, err := prefill.New(prefill.Config{Ranks: 2})
	if err != nil {
		t.Fatal(err)
	}
	add := func(b *prefill.Balancer, id prefill.ID) {
		t.Helper()
		if g, err := b.Add(prefill.Request{ID: id, Tokens: 1000, Among: []int{0}}); g != 0 || err != nil {
			t.Fatal(g, err)
		}
	}
	report := func(b *prefill.Balancer, epoch, version uint64, tokens int64, want error) {
		t.Helper()
		if err := b.Report(prefill.Report{Rank: 0, Epoch: epoch, Version: version, Work: prefill.Work{Tokens: tokens}}); !errors.Is(err, want) {
			t.Errorf("epoch %d, version %d: %v, not %v", epoch, version, err, want)
		}
	}
	wait := func(b *prefill.Balancer, want int64) {
		t.Helper()
		q, err := b.Quote(prefill.Request{ID: 999, Tokens: 1, Among: []int{0}})
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(q.Seconds/prefill.DeepSeekV3H800().Token + .5); got < want || got > want+want/20 {
			t.Errorf("rank 0 is taken to have %d tokens, not %d", got, want)
		}
	}
	add(b, 1)
	add(b, 2)
	report(b, 3, 1, 500, nil) // half of the first is done, the second on its way
	wait(b, 1500)
	report(b, 3, 7, 500, prefill.ErrState)
	report(b, 2, 2, 9000, nil) // of before its restart
	wait(b, 1500)
	report(b, 3, 0, 9000, nil) // older
	wait(b, 1500)
	saved := b.AppendSnapshot(nil)
	add(b, 3)
	add(b, 4)
	report(b, 3, 4, 3000, nil)
	wait(b, 3000)
	c, err := prefill.FromSnapshot(saved)
	if err != nil {
		t.Fatal(err)
	}
	report(c, 3, 4, 3000, nil) // it knows of two that the snapshot does not
	wait(c, 3000)
	add(c, 5)
	wait(c, 4000)
	report(c, 3, 4, 2500, nil)
	wait(c, 3500)
	report(c, 3, 100, 2500, prefill.ErrState) // by now they agree
	wait(c, 3500)
	report(c, 4, 0, 100, nil) // the rank was started again: it has seen none of what it is to have
	report(c, 4, 6, 100, prefill.ErrState)
	fresh, err := prefill.New(prefill.Config{Ranks: 2})
	if err != nil {
		t.Fatal(err)
	}
	report(fresh, 3, 4, 3000, nil) // the router was
	wait(fresh, 3000)
	report(fresh, 3, 5, 3000, prefill.ErrState)
}
