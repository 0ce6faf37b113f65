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
// same answers: ranks that exist, one for each request of a batch behind what dst
// held, and an error, with nothing changed, for a request that is not known, is
// known already, or holds a negative number of tokens. The id of one that has
// ended may come again.
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
	ended   []decode.ID
	next    decode.ID
}

func (c *check) run(r *rand.Rand) error {
	batcher, ok := c.s.(decode.Batcher)
	for call := range 3000 {
		var err error
		switch x := r.IntN(16); {
		case x < 5:
			err = c.add(c.request(r))
		case x < 7 && ok:
			err = c.batch(batcher, r)
		case x < 12 && len(c.running) > 0:
			err = c.done(r.IntN(len(c.running)))
		case x == 12:
			err = c.refuses(r)
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

// request draws one, whose id is new or that of one that has ended.
func (c *check) request(r *rand.Rand) decode.Request {
	c.next += 1 + decode.ID(r.IntN(5))
	q := decode.Request{ID: c.next<<32 | c.next, KV: int64(r.ExpFloat64() * 4000), Output: int64(r.IntN(2) * r.IntN(500))}
	if n := len(c.ended); n > 0 && r.IntN(3) == 0 {
		q.ID = c.ended[n-1]
		c.ended = c.ended[:n-1]
	}
	return q
}

// took checks one answer.
func (c *check) took(id decode.ID, rank int) error {
	if rank < decode.Full || rank >= c.ranks {
		return fmt.Errorf("rank %d of %d", rank, c.ranks)
	}
	if rank >= 0 {
		c.running = append(c.running, id)
	}
	return nil
}

func (c *check) add(q decode.Request) error {
	rank, err := c.s.Add(q)
	if err != nil {
		return fmt.Errorf("%+v: %w", q, err)
	}
	if rank2, err := c.twin.Add(q); rank2 != rank || err != nil {
		return fmt.Errorf("%+v goes to rank %d, and after the same calls to %d (%v)", q, rank, rank2, err)
	}
	return c.took(q.ID, rank)
}

func (c *check) batch(b decode.Batcher, r *rand.Rand) error {
	requests := make([]decode.Request, r.IntN(12))
	for i := range requests {
		requests[i] = c.request(r)
		requests[i].Output = 0
	}
	const before = -9
	got, err := b.Batch([]int{before}, requests)
	if err != nil {
		return err
	}
	if len(got) != 1+len(requests) || got[0] != before {
		return fmt.Errorf("a batch of %d, behind one answer that was there: %v", len(requests), got)
	}
	twin, err := c.twin.(decode.Batcher).Batch([]int{before}, requests)
	if err != nil || !slices.Equal(got, twin) {
		return fmt.Errorf("a batch goes to %v, and after the same calls to %v (%v)", got, twin, err)
	}
	for i, g := range got[1:] {
		if err := c.took(requests[i].ID, g); err != nil {
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
	c.ended = append(c.ended, id)
	return nil
}

// refuses asks what must be refused of one scheduler and not of its twin: if it
// changed anything, their answers come to differ.
func (c *check) refuses(r *rand.Rand) error {
	c.next++
	fresh := c.next
	if c.s.Done(fresh) == nil {
		return fmt.Errorf("a request that never ran has ended")
	}
	bad := []decode.Request{{ID: fresh, KV: -1}}
	if n := len(c.running); n > 0 {
		bad = append(bad, decode.Request{ID: c.running[r.IntN(n)], KV: 7})
	}
	b, ok := c.s.(decode.Batcher)
	for _, q := range bad {
		if rank, err := c.s.Add(q); err == nil {
			return fmt.Errorf("%+v, which is bad or known, is taken on rank %d", q, rank)
		}
		if !ok {
			continue
		}
		if got, err := b.Batch(nil, []decode.Request{{ID: fresh + 1<<40, KV: 5}, q}); err == nil || len(got) > 0 {
			return fmt.Errorf("a batch with %+v, which is bad or known, is taken: %v, %v", q, got, err)
		}
	}
	if !ok {
		return nil
	}
	if got, err := b.Batch(nil, []decode.Request{{ID: fresh, KV: 5}, {ID: fresh, KV: 6}}); err == nil || len(got) > 0 {
		return fmt.Errorf("a batch that holds an id twice is taken: %v, %v", got, err)
	}
	return nil
}
