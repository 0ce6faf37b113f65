package lockstep

import (
	"fmt"
	"slices"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/prefill"
)

// Routed is a former of a prefill unit whose prompts a policy places at step
// boundaries, once and for all, and whose ranks each compute their own in order. The
// policy sees every rank's state without delay.
type Routed struct {
	policy    baseline.PrefillPolicy
	maxTokens int64
	came      []prefill.Request // since the last step
	last      []prompt          // that the latest step ends
	queues    [][]prompt
	states    []baseline.RankState
	dead      []bool
	// chunk bounds the tokens of a prompt in a step; 0 = not. cached is what of a
	// prompt a rank has, asked when it is placed and when it starts; nil = what it
	// came with. seen is the states that the policy is shown; nil = those of now.
	chunk  int64
	cached func(id prefill.ID, rank int) int64
	seen   func(now []baseline.RankState) []baseline.RankState
}

// prompt is one in a rank's queue.
type prompt struct {
	prefill.Request
	done    int64 // cached or computed
	rank    int
	started bool
}

// NewRouted returns the former of an empty unit; of c it heeds Ranks and MaxTokens.
func NewRouted(p baseline.PrefillPolicy, c prefill.Config) *Routed {
	return &Routed{policy: p, maxTokens: c.MaxTokens, queues: make([][]prompt, c.Ranks), states: make([]baseline.RankState, c.Ranks), dead: make([]bool, c.Ranks)}
}

// Enqueue leaves a prompt to the next step.
func (f *Routed) Enqueue(r prefill.Request) error {
	f.came = append(f.came, r)
	return nil
}

// Done cancels nothing: every prompt is computed to its end.
func (f *Routed) Done(id prefill.ID) error { return fmt.Errorf("%w: %d", prefill.ErrUnknown, id) }

// Step forms the ranks' next step. A prompt that the policy refuses is lost.
func (f *Routed) Step(dst []prefill.Chunk) []prefill.Chunk {
	f.place()
	f.last = f.last[:0]
	for g, queue := range f.queues {
		if f.dead[g] {
			continue // all are
		}
		k := &f.states[g]
		room, rest := f.maxTokens, queue[:0]
		for i := range queue {
			if room == 0 {
				rest = append(rest, queue[i:]...)
				break
			}
			p := &queue[i]
			if !p.started {
				f.start(p, k)
			}
			n := min(room, p.Tokens-p.done)
			if f.chunk > 0 {
				n = min(n, f.chunk)
			}
			room -= n
			p.done += n
			k.Pending, k.KV = k.Pending-n, k.KV+n
			last := p.done == p.Tokens
			dst = append(dst, prefill.Chunk{ID: p.ID, Rank: g, Tokens: n, Last: last})
			if !last {
				rest = append(rest, *p)
				continue
			}
			k.Running, k.KV = k.Running-1, k.KV-p.Tokens
			f.last = append(f.last, *p)
		}
		f.queues[g] = rest
	}
	for _, p := range f.last {
		f.policy.Done(p.ID)
	}
	return dst
}

// place asks the policy where those go that have come.
func (f *Routed) place() {
	states := f.states
	if f.seen != nil {
		states = f.seen(states)
	}
	if len(f.came) == 0 {
		return
	}
	for g, k := range states {
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
}

// put queues a prompt on a rank, or where that is dead on the next that is not.
func (f *Routed) put(r *prefill.Request, g int) {
	for range f.dead {
		if !f.dead[g] {
			break
		}
		g = (g + 1) % len(f.dead)
	}
	p := prompt{Request: *r, done: r.Cached, rank: g}
	if f.cached != nil {
		p.done = f.cached(r.ID, g)
	}
	f.queues[g] = append(f.queues[g], p)
	k := &f.states[g]
	k.Waiting, k.WaitingTokens, k.Pending = k.Waiting+1, k.WaitingTokens+r.Tokens, k.Pending+r.Tokens-p.done
}

// start is when a rank turns to a prompt.
func (f *Routed) start(p *prompt, k *baseline.RankState) {
	p.started = true
	if f.cached != nil { // more or less than when it was placed
		k.Pending += p.done
		p.done = f.cached(p.ID, p.rank)
		k.Pending -= p.done
	}
	k.Waiting, k.WaitingTokens = k.Waiting-1, k.WaitingTokens-p.Tokens
	k.Running, k.KV = k.Running+1, k.KV+p.done
}

// Dead takes a rank out of service; its prompts are placed again, what was computed
// of them is lost.
func (f *Routed) Dead(dst []prefill.Lost, g int) ([]prefill.Lost, error) {
	f.dead[g] = true
	ends := slices.DeleteFunc(slices.Clone(f.last), func(p prompt) bool { return p.rank != g })
	f.last = slices.DeleteFunc(f.last, func(p prompt) bool { return p.rank == g })
	for _, p := range append(ends, f.queues[g]...) {
		f.policy.Done(p.ID)
		f.came = append(f.came, p.Request)
		dst = append(dst, prefill.Lost{ID: p.ID})
	}
	f.queues[g], f.states[g] = nil, baseline.RankState{}
	return dst, nil
}

// Restore takes a rank back, empty.
func (f *Routed) Restore(g int) error {
	f.dead[g] = false
	return nil
}
