package decode_test

import (
	"fmt"

	"github.com/moelb/moelb/decode"
)

func Example() {
	b, err := decode.New(decode.Config{Ranks: 4, KVCapacity: []int64{550_000}})
	if err != nil {
		panic(err)
	}
	rank, _ := b.Add(decode.Request{ID: 1, KV: 30_000})
	fmt.Println("long prompt on rank", rank)
	joint, _ := b.Batch(nil, []decode.Request{{ID: 2, KV: 1000}, {ID: 3, KV: 20_000}, {ID: 4, KV: 12_000}})
	for _, rank := range joint {
		fmt.Println("then on rank", rank)
	}
	b.Step() // all four grew by a token
	_ = b.Done(1)
	rank, _ = b.Add(decode.Request{ID: 5, KV: 5000, Output: 300})
	fmt.Println("the next on rank", rank)
	fmt.Println(b.Stats().Ranks[rank].KV, "tokens there")
	// Output:
	// long prompt on rank 0
	// then on rank 3
	// then on rank 1
	// then on rank 2
	// the next on rank 0
	// 5000 tokens there
}
