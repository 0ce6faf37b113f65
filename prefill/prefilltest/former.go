package prefilltest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/prefill"
)

// Former runs random queues, from the seed that its reports name, on two formers
// of an empty unit with so many ranks that take at most maxTokens new tokens each
// in a step (0 = any number), which must give the same answers: every prompt is
// computed once and whole, on one rank, its last chunk says so, no rank takes more
// than it may, work is done at every step while any waits, and an error comes,
// with nothing changed, for a prompt that is known already or not at all.
func Former(t testing.TB, ranks int, maxTokens int64, create func() prefill.Former) {
	t.Helper()
	for seed := range uint64(3) {
		f := former{ranks: ranks, most: maxTokens, f: create(), twin: create(), left: map[prefill.ID]int64{}, on: map[prefill.ID]int{}}
		if err := f.run(rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Errorf("%d ranks, seed %d: %v", ranks, seed, err)
		}
	}
}

type former struct {
	ranks   int
	most    int64
	f, twin prefill.Former
	left    map[prefill.ID]int64 // tokens to compute, of those that wait
	on      map[prefill.ID]int   // rank of those that have begun
}

func (c *former) run(r *rand.Rand) error {
	next := prefill.ID(0)
	for step := 0; step < 200 || len(c.left) > 0; step++ {
		for range r.IntN(2 * c.ranks) {
			if step >= 200 {
				break
			}
			q := prompt(r, next)
			next++
			if err := c.f.Enqueue(q); err != nil {
				return fmt.Errorf("%+v: %w", q, err)
			}
			if err := c.twin.Enqueue(q); err != nil {
				return fmt.Errorf("%+v: %w", q, err)
			}
			c.left[q.ID] = q.Tokens - q.Cached
			if c.f.Enqueue(q) == nil {
				return fmt.Errorf("prompt %d waits twice", q.ID)
			}
		}
		if c.f.Done(1<<63) == nil {
			return fmt.Errorf("a prompt that never came is taken off")
		}
		if next > 0 && r.IntN(4) == 0 {
			if err := c.cancel(prefill.ID(r.Int64N(int64(next)))); err != nil {
				return err
			}
		}
		if err := c.step(); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
	}
	return nil
}

// cancel takes a prompt off that may have ended.
func (c *former) cancel(id prefill.ID) error {
	_, waits := c.left[id]
	delete(c.left, id)
	err, twin := c.f.Done(id), c.twin.Done(id)
	if (err == nil) != waits || (twin == nil) != waits {
		return fmt.Errorf("prompt %d, which waits: %v, is taken off: %v, %v", id, waits, err, twin)
	}
	return nil
}

func (c *former) step() error {
	before := prefill.Chunk{ID: 1 << 60}
	chunks := c.f.Step([]prefill.Chunk{before})
	if twin := c.twin.Step([]prefill.Chunk{before}); !slices.Equal(chunks, twin) {
		return fmt.Errorf("the chunks are %v, and after the same calls %v", chunks, twin)
	}
	if len(chunks) == 0 || chunks[0] != before {
		return fmt.Errorf("what dst held is lost: %v", chunks)
	}
	if len(chunks) == 1 && len(c.left) > 0 {
		return fmt.Errorf("%d prompts wait and nothing runs", len(c.left))
	}
	used := make([]int64, c.ranks)
	for _, k := range chunks[1:] {
		left, waits := c.left[k.ID]
		rank, begun := c.on[k.ID]
		switch {
		case !waits:
			return fmt.Errorf("prompt %d, which does not wait, runs", k.ID)
		case k.Rank < 0 || k.Rank >= c.ranks:
			return fmt.Errorf("prompt %d is on rank %d of %d", k.ID, k.Rank, c.ranks)
		case begun && rank != k.Rank:
			return fmt.Errorf("prompt %d began on rank %d and goes on on %d", k.ID, rank, k.Rank)
		case k.Tokens < 1 || k.Tokens > left || k.Last != (k.Tokens == left):
			return fmt.Errorf("prompt %d has %d tokens to compute; the chunk has %d, last: %v", k.ID, left, k.Tokens, k.Last)
		}
		c.on[k.ID] = k.Rank
		if c.left[k.ID] -= k.Tokens; k.Last {
			delete(c.left, k.ID)
		}
		if used[k.Rank] += k.Tokens; c.most > 0 && used[k.Rank] > c.most {
			return fmt.Errorf("rank %d takes %d tokens of at most %d", k.Rank, used[k.Rank], c.most)
		}
	}
	return nil
}
