// Package prefilltest tests what balances prompts over ranks: that a policy keeps
// the promises of prefill.Assigner or of prefill.Former.
package prefilltest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/prefill"
)

// prompt returns a random prompt, some of it cached.
func prompt(r *rand.Rand, id prefill.ID) prefill.Request {
	tokens := 1 + int64(r.ExpFloat64()*3000)
	return prefill.Request{ID: id, Tokens: tokens, Cached: r.Int64N(2) * r.Int64N(tokens)}
}

// Assigner runs a few thousand random calls, from the seed that its reports name,
// on two assigners of an empty unit with so many ranks, which must give the same
// answers: ranks that exist, or prefill.Full while any request is there, and an error, with nothing changed, for taking off
// what is not there.
func Assigner(t testing.TB, ranks int, create func() prefill.Assigner) {
	t.Helper()
	for seed := range uint64(3) {
		if err := assigner(rand.New(rand.NewPCG(seed, 1)), ranks, create(), create()); err != nil {
			t.Errorf("%d ranks, seed %d: %v", ranks, seed, err)
		}
	}
}

func assigner(r *rand.Rand, ranks int, a, twin prefill.Assigner) error {
	var there []prefill.ID
	for id := range prefill.ID(3000) {
		if len(there) == 0 || r.IntN(2) == 0 {
			q := prompt(r, id)
			rank, err := a.Add(q)
			if full := rank == prefill.Full && len(there) > 0; err != nil || !full && rank < 0 || rank >= ranks {
				return fmt.Errorf("%+v goes to rank %d of %d (%v)", q, rank, ranks, err)
			}
			if again, err := twin.Add(q); again != rank || err != nil {
				return fmt.Errorf("%+v goes to rank %d, and after the same calls to %d (%v)", q, rank, again, err)
			}
			if rank >= 0 {
				there = append(there, id)
			}
			continue
		}
		i := r.IntN(len(there))
		q := there[i]
		there = slices.Delete(there, i, i+1)
		if err := a.Done(q); err != nil {
			return fmt.Errorf("request %d is taken off: %w", q, err)
		}
		if err := twin.Done(q); err != nil {
			return fmt.Errorf("request %d is taken off: %w", q, err)
		}
		if a.Done(q) == nil {
			return fmt.Errorf("request %d is taken off twice", q)
		}
	}
	return nil
}
