package prefill_test

import (
	"fmt"
	"log"

	"github.com/moelb/moelb/prefill"
)

func Example() {
	b, err := prefill.New(prefill.Config{Ranks: 2, MaxTokens: 4096})
	if err != nil {
		log.Fatal(err)
	}
	for id, tokens := range []int64{9000, 1500, 1200, 900, 700} {
		if err := b.Enqueue(prefill.Request{ID: prefill.ID(id), Tokens: tokens}); err != nil {
			log.Fatal(err)
		}
	}
	for step := 0; ; step++ {
		chunks := b.Step(nil)
		if len(chunks) == 0 {
			break
		}
		for _, c := range chunks {
			fmt.Printf("step %d, rank %d: %d tokens of request %d, last %v\n", step, c.Rank, c.Tokens, c.ID, c.Last)
		}
	}
	// Output:
	// step 0, rank 0: 848 tokens of request 0, last false
	// step 0, rank 0: 1200 tokens of request 2, last true
	// step 0, rank 1: 1500 tokens of request 1, last true
	// step 0, rank 1: 548 tokens of request 3, last false
	// step 1, rank 0: 1217 tokens of request 0, last false
	// step 1, rank 1: 352 tokens of request 3, last true
	// step 1, rank 1: 700 tokens of request 4, last true
	// step 2, rank 0: 2048 tokens of request 0, last false
	// step 3, rank 0: 2048 tokens of request 0, last false
	// step 4, rank 0: 2839 tokens of request 0, last true
}

// An engine that forms its own steps asks for a rank and says when it is done.
func ExampleBalancer_Add() {
	b, err := prefill.New(prefill.Config{Ranks: 3})
	if err != nil {
		log.Fatal(err)
	}
	for id, r := range []prefill.Request{
		{Tokens: 8000},
		{Tokens: 3000},
		{Tokens: 8000, CachedAt: []int64{7680, 0, 0}}, // worth the busiest rank
		{Tokens: 8000, CachedAt: []int64{512, 0, 0}},  // not worth it
	} {
		r.ID = prefill.ID(id)
		rank, err := b.Add(r)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("request %d on rank %d\n", id, rank)
	}
	if err := b.Done(0); err != nil {
		log.Fatal(err)
	}
	// Output:
	// request 0 on rank 0
	// request 1 on rank 1
	// request 2 on rank 0
	// request 3 on rank 2
}
