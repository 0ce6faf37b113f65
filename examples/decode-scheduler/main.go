// Command decode-scheduler is a small scheduler of a decode unit: requests arrive,
// join a rank, grow by a token a step, and leave; one rank dies on the way. It
// prints what a step costs beside an even unit's.
package main

import (
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/moelb/moelb/decode"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	const ranks, batch, steps = 32, 64, 600
	b, err := decode.New(decode.Config{Ranks: ranks, KVCapacity: []int64{550_000}})
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 1))
	ends := map[decode.ID]int{} // the step with which a request ends
	next := decode.ID(0)
	for step := range steps {
		// What arrived since the last step is placed jointly.
		var arrived []decode.Request
		for len(ends)+len(arrived) < ranks*batch {
			next++
			arrived = append(arrived, decode.Request{ID: next, KV: 500 + rng.Int64N(9500)})
		}
		placed, err := b.Batch(nil, arrived)
		if err != nil {
			return err
		}
		for i, rank := range placed {
			if rank != decode.Full {
				ends[arrived[i].ID] = step + 1 + rng.IntN(400)
			}
		}
		if step == steps/2 {
			lost, err := b.Dead(nil, 5)
			if err != nil {
				return err
			}
			for _, l := range lost {
				rank, err := b.Add(l)
				if err != nil {
					return err
				}
				if rank == decode.Full {
					delete(ends, l.ID)
				}
			}
			fmt.Printf("step %d: rank 5 died, its %d requests went to others\n", step, len(lost))
		}
		b.Step()
		for _, id := range b.Known(nil) {
			if ends[id] <= step {
				delete(ends, id)
				if err := b.Done(id); err != nil {
					return err
				}
			}
		}
		if step%100 == 99 {
			s := b.Stats()
			fmt.Printf("step %d: %.1f ms, max/mean %.3f of KV use, %.3f of requests\n", step, 1e3*b.StepSeconds(), s.Imbalance.KV, s.Imbalance.Requests)
		}
	}
	return nil
}
