package simulate

import (
	"fmt"
	"slices"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/prefill"
)

// routed is a prefill unit whose prompts a policy places at step boundaries, once
// and for all, and whose ranks each compute their own in order. The policy sees
// every rank's state without delay.
type routed struct {
	policy    baseline.PrefillPolicy
	maxTokens int64
	came      []prefill.Request // since the last step
	last      []prompt          // that the latest step ends
	queues    [][]prompt
	states    []baseline.RankState
	dead      []bool
}

// prompt is one in a rank's queue.
type prompt struct {
	id           prefill.ID
	tokens, done int64 // done: cached or computed
	cached       int64
	rank         int
	started      bool
}

func newRouted(p baseline.PrefillPolicy, c prefill.Config) *routed {
	return &routed{policy: p, maxTokens: c.MaxTokens, queues: make([][]prompt, c.Ranks), states: make([]baseline.RankState, c.Ranks), dead: make([]bool, c.Ranks)}
}

// Enqueue leaves a prompt to the next step.
func (f *routed) Enqueue(r prefill.Request) error {
	f.came = append(f.came, r)
	return nil
}

// Done cancels nothing: every prompt is computed to its end.
func (f *routed) Done(id prefill.ID) error { return fmt.Errorf("%w: %d", prefill.ErrUnknown, id) }

// Step forms the ranks' next step.
func (f *routed) Step(dst []prefill.Chunk) []prefill.Chunk {
	for g, k := range f.states {
		f.policy.Observe(g, k)
	}
	if batch, ok := f.policy.(baseline.PrefillBatch); ok {
		batch.AddBatch(f.came, func(i, g int) { f.put(&f.came[i], g) })
	} else {
		for i := range f.came {
			if g, err := f.policy.Add(f.came[i]); err == nil {
				f.put(&f.came[i], g)
			}
		}
	}
	f.came = f.came[:0]
	f.last = f.last[:0]
	for g, q := range f.queues {
		if f.dead[g] {
			continue // all are
		}
		k := &f.states[g]
		room, i := f.maxTokens, 0
		for i < len(q) && room > 0 {
			p := &q[i]
			if !p.started {
				p.started = true
				k.Waiting, k.WaitingTokens = k.Waiting-1, k.WaitingTokens-p.tokens
				k.Running, k.KV = k.Running+1, k.KV+p.done
			}
			n := min(room, p.tokens-p.done)
			room -= n
			p.done += n
			k.Pending, k.KV = k.Pending-n, k.KV+n
			last := p.done == p.tokens
			dst = append(dst, prefill.Chunk{ID: p.id, Rank: g, Tokens: n, Last: last})
			if !last {
				break
			}
			k.Running, k.KV = k.Running-1, k.KV-p.tokens
			f.policy.Done(p.id)
			f.last = append(f.last, *p)
			i++
		}
		f.queues[g] = slices.Delete(q, 0, i)
	}
	return dst
}

// Dead takes a rank out of service; its prompts are placed again, what was computed
// of them is lost.
func (f *routed) Dead(dst []prefill.Lost, g int) ([]prefill.Lost, error) {
	f.dead[g] = true
	for _, p := range append(f.ended(g), f.queues[g]...) {
		f.policy.Done(p.id)
		r := prefill.Request{ID: p.id, Tokens: p.tokens, Cached: p.cached}
		f.came = append(f.came, r)
		dst = append(dst, prefill.Lost{ID: p.id})
	}
	f.queues[g], f.states[g] = nil, baseline.RankState{}
	return dst, nil
}

// ended is the prompts that the latest step was to end on a rank.
func (f *routed) ended(g int) []prompt {
	out := slices.DeleteFunc(slices.Clone(f.last), func(p prompt) bool { return p.rank != g })
	f.last = slices.DeleteFunc(f.last, func(p prompt) bool { return p.rank == g })
	return out
}

// Restore takes a rank back, empty.
func (f *routed) Restore(g int) error {
	f.dead[g] = false
	return nil
}

// put queues a prompt on a rank, or where that is dead on the next that is not.
func (f *routed) put(r *prefill.Request, g int) {
	for range f.dead {
		if !f.dead[g] {
			break
		}
		g = (g + 1) % len(f.dead)
	}
	f.queues[g] = append(f.queues[g], prompt{id: r.ID, tokens: r.Tokens, done: r.Cached, cached: r.Cached, rank: g})
	k := &f.states[g]
	k.Waiting, k.WaitingTokens, k.Pending = k.Waiting+1, k.WaitingTokens+r.Tokens, k.Pending+r.Tokens-r.Cached
}
