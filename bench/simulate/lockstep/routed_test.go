package lockstep

import (
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/prefill"
)

// TestRouted: ranks with queues of their own compute their prompts in order and each
// token of them once, fill a step where there is enough and never more, and tell the
// policy what they hold, while one dies and returns.
func TestRouted(t *testing.T) {
	const ranks, most = 3, 1000
	for _, p := range baseline.PrefillPolicies() {
		f := NewRouted(p.New(ranks), prefill.Config{Ranks: ranks, MaxTokens: most})
		r := rand.New(rand.NewPCG(7, 1))
		left := map[prefill.ID]int64{}
		next := prefill.ID(0)
		for step := range 400 {
			for range r.IntN(6) {
				q := prefill.Request{ID: next, Tokens: 1 + int64(r.IntN(900))}
				q.Cached = int64(r.IntN(int(q.Tokens)))
				if err := f.Enqueue(q); err != nil {
					t.Fatal(err)
				}
				left[next] = q.Tokens - q.Cached
				next++
			}
			var took [ranks]int64
			for _, c := range f.Step(nil) {
				took[c.Rank] += c.Tokens
				left[c.ID] -= c.Tokens
				if c.Last != (left[c.ID] == 0) || c.Tokens < 1 {
					t.Fatalf("%s, step %d: %+v leaves %d", p.Name, step, c, left[c.ID])
				}
				if c.Last {
					delete(left, c.ID)
				}
			}
			for g, n := range took {
				held := baseline.RankState{}
				for _, x := range f.queues[g] {
					held.Pending += x.Tokens - x.done
					if x.started {
						held.Running, held.KV = held.Running+1, held.KV+x.done
					} else {
						held.Waiting, held.WaitingTokens = held.Waiting+1, held.WaitingTokens+x.Tokens
					}
				}
				if n > most || n < most && held.Pending > 0 || f.states[g] != held {
					t.Fatalf("%s, step %d, rank %d: %d tokens in a step of %d; %+v is told, %+v is so", p.Name, step, g, n, most, f.states[g], held)
				}
			}
			switch step % 40 {
			case 20:
				lost, err := f.Dead(nil, step/40%ranks)
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range lost { // computed anew, with what was cached
					for _, q := range f.came {
						if q.ID == x.ID {
							left[x.ID] = q.Tokens - q.Cached
						}
					}
				}
			case 30:
				if err := f.Restore(step / 40 % ranks); err != nil {
					t.Fatal(err)
				}
			}
		}
		var all int64
		for _, n := range left {
			all += n
		}
		for g := range f.states {
			all -= f.states[g].Pending
		}
		if all != 0 {
			t.Errorf("%s: %d tokens are nowhere", p.Name, all)
		}
	}
}
