// Package decodetest tests what places decode requests: that a policy keeps the
// promises of decode.Scheduler, and of decode.Batcher where it is one.
package decodetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/decode"
)

// Scheduler runs a few thousand random calls, from the seed that its reports
// name, on two schedulers of an empty unit with so many ranks, which must give the
// same answers: ranks that exist, names that no running request has, one answer for
// each request of a batch behind what dst held, and an error, with nothing changed,
// for a request that is not running or holds a negative number of tokens.
func Scheduler(t testing.TB, ranks int, create func() decode.Scheduler) {
	t.Helper()
	for seed := range uint64(3) {
		if err := (&check{ranks: ranks, s: create(), twin: create()}).run(rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Errorf("%d ranks, seed %d: %v", ranks, seed, err)
		}
	}
}

type check struct {
	ranks   int
	s, twin decode.Scheduler
	running []decode.ID
}

func (c *check) run(r *rand.Rand) error {
	batcher, ok := c.s.(decode.Batcher)
	for call := range 3000 {
		var err error
		switch x := r.IntN(16); {
		case x < 5:
			q := decode.Request{KV: int(r.ExpFloat64() * 4000), Output: r.IntN(2) * r.IntN(500)}
			err = c.add(q)
		case x < 7 && ok:
			err = c.batch(batcher, r)
		case x < 12 && len(c.running) > 0:
			err = c.done(r.IntN(len(c.running)))
		case x == 12:
			err = c.refuses()
		default:
			c.s.Step()
			c.twin.Step()
		}
		if err != nil {
			return fmt.Errorf("call %d: %w", call, err)
		}
	}
	for len(c.running) > 0 {
		if err := c.done(0); err != nil {
			return err
		}
	}
	return nil
}

// took checks one answer.
func (c *check) took(id decode.ID, rank int) error {
	switch {
	case rank < -1 || rank >= c.ranks:
		return fmt.Errorf("rank %d of %d", rank, c.ranks)
	case rank == -1 && id != 0:
		return fmt.Errorf("a request that fits nowhere is named %d", id)
	case rank == -1:
		return nil
	case id == 0:
		return fmt.Errorf("a request on rank %d has no name", rank)
	case slices.Contains(c.running, id):
		return fmt.Errorf("two requests are named %d", id)
	}
	c.running = append(c.running, id)
	return nil
}

func (c *check) add(q decode.Request) error {
	id, rank, err := c.s.Add(q)
	if err != nil {
		return fmt.Errorf("%+v: %w", q, err)
	}
	if id2, rank2, err := c.twin.Add(q); id2 != id || rank2 != rank || err != nil {
		return fmt.Errorf("%+v goes to rank %d as %d, and after the same calls to %d as %d (%v)", q, rank, id, rank2, id2, err)
	}
	return c.took(id, rank)
}

func (c *check) batch(b decode.Batcher, r *rand.Rand) error {
	requests := make([]decode.Request, r.IntN(12))
	for i := range requests {
		requests[i].KV = int(r.ExpFloat64() * 4000)
	}
	before := decode.Assignment{ID: 7, Rank: -9}
	got, err := b.Batch([]decode.Assignment{before}, requests)
	if err != nil {
		return err
	}
	if len(got) != 1+len(requests) || got[0] != before {
		return fmt.Errorf("a batch of %d, behind one answer that was there: %v", len(requests), got)
	}
	twin, err := c.twin.(decode.Batcher).Batch([]decode.Assignment{before}, requests)
	if err != nil || !slices.Equal(got, twin) {
		return fmt.Errorf("a batch goes to %v, and after the same calls to %v (%v)", got, twin, err)
	}
	for _, a := range got[1:] {
		if err := c.took(a.ID, a.Rank); err != nil {
			return err
		}
	}
	return nil
}

// done ends a running request, and must not do so twice.
func (c *check) done(i int) error {
	id := c.running[i]
	c.running = slices.Delete(c.running, i, i+1)
	if err := c.s.Done(id); err != nil {
		return fmt.Errorf("a running request ends: %w", err)
	}
	if err := c.twin.Done(id); err != nil {
		return fmt.Errorf("a running request ends: %w", err)
	}
	if c.s.Done(id) == nil {
		return fmt.Errorf("request %d ended twice", id)
	}
	return nil
}

// refuses asks what must be refused of one scheduler and not of its twin: if it
// changed anything, their answers come to differ.
func (c *check) refuses() error {
	if c.s.Done(0) == nil {
		return fmt.Errorf("a request that never ran has ended")
	}
	if id, rank, err := c.s.Add(decode.Request{KV: -1}); err == nil {
		return fmt.Errorf("a request of -1 tokens is taken as %d on rank %d", id, rank)
	}
	b, ok := c.s.(decode.Batcher)
	if !ok {
		return nil
	}
	if got, err := b.Batch(nil, []decode.Request{{KV: 5}, {KV: -1}}); err == nil || len(got) > 0 {
		return fmt.Errorf("a batch with a request of -1 tokens is taken: %v, %v", got, err)
	}
	return nil
}
