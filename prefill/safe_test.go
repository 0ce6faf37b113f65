package prefill_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/moelb/moelb/prefill"
)

// TestSafe: 64 goroutines add, move, end, cancel and lose requests, take over lists
// and ask for steps, on two routers' ledgers, while ranks are drained and die. In the
// end the books are at zero.
func TestSafe(t *testing.T) {
	const ranks, workers, calls = 8, 64, 150
	var routers [2]*prefill.Safe
	for i := range routers {
		b, err := prefill.New(prefill.Config{Ranks: ranks, MaxTokens: 1024, MaxKV: []int64{1 << 20}, Routers: 2, Router: i})
		if err != nil {
			t.Fatal(err)
		}
		routers[i] = prefill.NewSafe(b)
	}
	// What a call may say of requests and ranks that others change beside it.
	fine := func(err error) {
		if err != nil && !errors.Is(err, prefill.ErrUnknown) && !errors.Is(err, prefill.ErrState) {
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			r := rand.New(rand.NewPCG(uint64(w), 3))
			s := routers[w%2]
			for i := range calls {
				id := func() prefill.ID { return prefill.ID(w + workers*r.IntN(i+1)) }
				q := prefill.Request{ID: prefill.ID(w + workers*i), Tokens: 1 + r.Int64N(2000)}
				switch r.IntN(10) {
				case 0, 1:
					fine(s.Enqueue(q))
				case 2:
					fine(s.Enter(q, r.IntN(ranks)))
				default:
					_, err := s.Add(q)
					fine(err)
				}
				switch g := r.IntN(ranks); r.IntN(12) {
				case 0:
					_, err := s.Dead(nil, g)
					fine(err)
				case 1:
					fine(s.Drain(g))
				case 2:
					fine(s.Restore(g))
				case 3:
					s.Step(nil)
				case 4:
					fine(s.Move(id(), g))
				case 5:
					_, err := s.Sync(prefill.Changes{}, g, []prefill.Running{{ID: id(), Tokens: 100, Computed: 50}})
					fine(err)
				case 6:
					fine(s.Report(prefill.Report{Rank: g, Version: s.Version(g), Work: s.Rank(g).Work}))
				case 7:
					_, err := s.Quote(prefill.Request{ID: 1 << 60, Tokens: 10})
					fine(err)
				case 8:
					if _, err := prefill.FromSnapshot(s.AppendSnapshot(nil)); err != nil {
						t.Error(err)
					}
				case 9:
					s.Stats()
				default:
					fine(s.Cancel(id()))
				}
			}
			for i := range calls {
				fine(s.Done(prefill.ID(w + workers*i)))
			}
		}()
	}
	all.Wait()
	for i, s := range routers {
		for _, id := range s.Known(nil) { // what Sync entered again, and deaths gave back
			fine(s.Cancel(id))
		}
		got := s.Stats()
		for g, k := range got.Ranks {
			if k.Requests != 0 || k.Work != (prefill.Work{}) || k.KV != 0 {
				t.Errorf("router %d, rank %d: %+v", i, g, k)
			}
		}
		if got.Requests != 0 || got.Queued != 0 || s.Queued() != 0 {
			t.Errorf("router %d: %d requests, %d in the queue", i, got.Requests, got.Queued)
		}
		if len(s.Step(nil)) != 0 {
			t.Errorf("router %d has a step", i)
		}
	}
}

// TestSafeIsWhole: Safe has every method of Balancer.
func TestSafeIsWhole(t *testing.T) {
	b, s := methods(&prefill.Balancer{}), methods(&prefill.Safe{})
	for name := range b {
		if !s[name] {
			t.Errorf("Safe has no %s", name)
		}
	}
}

func methods(x any) map[string]bool {
	out := map[string]bool{}
	t := reflect.TypeOf(x)
	for i := range t.NumMethod() {
		out[t.Method(i).Name] = true
	}
	return out
}
