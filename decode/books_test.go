package decode

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	evidence "github.com/moelb/moelb/internal/long"
)

// engine is one rank as it really is: what runs there, whoever placed it.
type engine struct {
	mu               sync.Mutex
	epoch            uint64
	runs             map[ID]int64 // KV use
	placed, finished [2]uint64
}

func (e *engine) take(router int, id ID, kv int64) (epoch uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runs[id] = kv
	e.placed[router]++
	return e.epoch
}

// leave lets a request go that was taken in an epoch; it may be lost by now.
func (e *engine) leave(router int, id ID, epoch uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.epoch == epoch {
		delete(e.runs, id)
		e.finished[router]++
	}
}

func (e *engine) restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.epoch++
	clear(e.runs)
	e.placed, e.finished = [2]uint64{}, [2]uint64{}
}

func (e *engine) report(g, router int) Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := Report{Rank: g, Requests: len(e.runs), Placed: e.placed[router], Finished: e.finished[router], Epoch: e.epoch}
	for _, kv := range e.runs {
		r.KV += kv
	}
	return r
}

// TestBooks: 64 goroutines place and end requests through two routers, ranks die
// and restart, reports come as they come, and routers come back from snapshots. In
// the end the books of both are at zero exactly.
func TestBooks(t *testing.T) {
	turns := 150
	if evidence.Tests() {
		turns = 3000
	}
	const ranks = 12
	var routers [2]*Safe
	for x := range routers {
		routers[x] = NewSafe(newBalancer(t, Config{Ranks: ranks, KVCapacity: []int64{400_000}, Routers: 2, Router: x}))
	}
	engines := make([]*engine, ranks)
	for g := range engines {
		engines[g] = &engine{runs: map[ID]int64{}}
	}
	tolerate := func(err error, kinds ...error) {
		for _, k := range kinds {
			if errors.Is(err, k) {
				return
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	for w := range 64 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 77))
			type held struct {
				id     ID
				router int
				rank   int
				epoch  uint64
			}
			var mine []held
			end := func(i int) {
				h := mine[i]
				mine[i] = mine[len(mine)-1]
				mine = mine[:len(mine)-1]
				engines[h.rank].leave(h.router, h.id, h.epoch)
				s := routers[h.router]
				f := [...]func(ID) error{s.Done, s.Cancel, s.Evict}[r.IntN(3)]
				tolerate(f(h.id), ErrUnknown) // lost with its rank
			}
			for i := range turns {
				x := r.IntN(2)
				s := routers[x]
				id := ID(w)<<32 | ID(i)
				kv := r.Int64N(5000)
				if g, err := s.Add(Request{ID: id, KV: kv}); err != nil {
					t.Error(err)
				} else if g >= 0 {
					mine = append(mine, held{id, x, g, engines[g].take(x, id, kv)})
				}
				g := r.IntN(ranks)
				switch n := r.IntN(300); {
				case n == 0: // the rank restarts, and both hear of it
					engines[g].restart()
					for _, s := range routers {
						_, err := s.Dead(nil, g)
						tolerate(err)
						tolerate(s.Restore(g))
					}
				case n == 1: // the rank restarts, and its reports alone say so
					engines[g].restart()
				case n == 2: // the router restarts
					s.Do(func(b *Balancer) {
						again, err := FromSnapshot(b.AppendSnapshot(nil))
						tolerate(err)
						*b = *again
					})
				case n < 40:
					tolerate(s.Report(engines[g].report(g, x)), ErrState)
				case n < 50:
					s.Step()
				case n < 60:
					_, err := s.Rebalance(nil, 0)
					tolerate(err)
				}
				for len(mine) > 20 || len(mine) > 0 && r.IntN(2) == 0 {
					end(r.IntN(len(mine)))
				}
			}
			for len(mine) > 0 {
				end(len(mine) - 1)
			}
		})
	}
	all.Wait()
	for x, s := range routers {
		for g := range engines {
			if n := len(engines[g].runs); n > 0 {
				t.Fatalf("rank %d still runs %d", g, n)
			}
			tolerate(s.Report(engines[g].report(g, x)))
			if k := s.Rank(g); k.Requests != 0 || k.KV != 0 || k.Width != 0 {
				t.Errorf("router %d, rank %d: %+v", x, g, k)
			}
		}
		s.Do(func(b *Balancer) {
			if b.ids.Len() != 0 || len(b.free) != len(b.requests) {
				t.Errorf("router %d: %d ids, %d of %d slots free", x, b.ids.Len(), len(b.free), len(b.requests))
			}
		})
	}
}

// TestReportsThatLie: whatever is wrong with the reports, no rank gets more than half
// again its share of 800 requests.
func TestReportsThatLie(t *testing.T) {
	const ranks, n, behind = 8, 800, 128
	for _, counted := range []bool{true, false} {
		for name, which := range map[string]func(r *rand.Rand, i int, past []Report) *Report{
			"late":      func(_ *rand.Rand, i int, past []Report) *Report { return &past[max(0, len(past)-1-behind)] },
			"frozen":    func(_ *rand.Rand, i int, past []Report) *Report { return &past[0] },
			"reordered": func(r *rand.Rand, i int, past []Report) *Report { return &past[r.IntN(len(past))] },
			"dropped":   func(r *rand.Rand, i int, past []Report) *Report { return nil },
			"restarted": func(r *rand.Rand, i int, past []Report) *Report {
				if i < n/2 {
					return &past[len(past)-1]
				}
				return &Report{Rank: past[0].Rank, Epoch: 1}
			},
		} {
			r := rand.New(rand.NewPCG(5, 55))
			b := newBalancer(t, Config{Ranks: ranks, Routers: 2})
			var got [ranks]int
			var kv [ranks]int64
			var past [ranks][]Report
			for g := range past {
				past[g] = []Report{{Rank: g}}
			}
			for i := range n {
				g := i % ranks
				said := Report{Rank: g, Requests: got[g], KV: kv[g]}
				if counted {
					said.Placed = uint64(got[g])
				}
				past[g] = append(past[g], said)
				if p := which(r, i, past[g]); p != nil {
					if err := b.Report(*p); err != nil && !errors.Is(err, ErrState) {
						t.Fatalf("%s: %v", name, err)
					}
				}
				q := Request{ID: ID(i), KV: 1000 + r.Int64N(500)}
				to, err := b.Add(q)
				if err != nil || to < 0 {
					t.Fatalf("%s: %d, %v", name, to, err)
				}
				got[to]++
				kv[to] += q.KV
				if i%4 == 3 {
					b.Step()
				}
			}
			for g, x := range got {
				if 2*x*ranks > 3*n {
					t.Errorf("%s, counted %v: rank %d gets %d of %d", name, counted, g, x, n)
				}
			}
		}
	}
}
