package decode_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/moelb/moelb/decode"
)

// newUnit is a balancer of some idle ranks.
func newUnit(c decode.Config) *decode.Balancer {
	b, err := decode.New(c)
	ok(err)
	return b
}

func ok(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// What does not fit now waits with its caller; what can never fit is an error.
func ExampleBalancer_Add() {
	b := newUnit(decode.Config{Ranks: 2, KVCapacity: []int64{10_000}})
	for id, kv := range []int64{9000, 9000, 9000, 90_000} {
		rank, err := b.Add(decode.Request{ID: decode.ID(id), KV: kv, Output: 100})
		switch {
		case errors.Is(err, decode.ErrNever):
			fmt.Println(id, "will never fit")
		case rank == decode.Full:
			fmt.Println(id, "waits")
		default:
			fmt.Println(id, "on rank", rank)
		}
	}
	// Output:
	// 0 on rank 0
	// 1 on rank 1
	// 2 waits
	// 3 will never fit
}

// Requests that arrived together are placed together: the longest first.
func ExampleBalancer_Batch() {
	b := newUnit(decode.Config{Ranks: 2})
	ranks, err := b.Batch(nil, []decode.Request{{ID: 1, KV: 10_000}, {ID: 2, KV: 20_000}, {ID: 3, KV: 30_000}})
	ok(err)
	kv := make([]int64, b.Ranks())
	for i, rank := range ranks {
		kv[rank] += int64(10_000 * (i + 1))
	}
	fmt.Println(kv)
	// Output:
	// [30000 30000]
}

// A request ends in one of three ways, and each says something else about how
// long outputs are.
func ExampleBalancer_Done() {
	b := newUnit(decode.Config{Ranks: 1})
	for id := range decode.ID(3) {
		_, err := b.Add(decode.Request{ID: id, KV: 1000})
		ok(err)
	}
	b.Step()
	ok(b.Done(0))   // it finished: outputs of one token exist
	ok(b.Cancel(1)) // its client went away: it would have been longer
	ok(b.Evict(2))  // the engine preempted it, and will bring it again
	rank, err := b.Add(decode.Request{ID: 2, KV: 1001, Generated: 1})
	ok(err)
	fmt.Println("back on rank", rank)
	fmt.Println("ended twice:", errors.Is(b.Done(1), decode.ErrUnknown))
	// Output:
	// back on rank 0
	// ended twice: true
}

// What a step of speculative decoding accepted is told for all at once.
func ExampleBalancer_GrowAll() {
	b := newUnit(decode.Config{Ranks: 2})
	_, err := b.Batch(nil, []decode.Request{{ID: 1, KV: 500}, {ID: 2, KV: 700}})
	ok(err)
	ok(b.GrowAll([]decode.Growth{{ID: 1, Tokens: 3}, {ID: 2, Tokens: 1}}))
	for id := range decode.ID(2) {
		kv, err := b.KV(id + 1)
		ok(err)
		fmt.Println(kv)
	}
	// Output:
	// 503
	// 701
}

// The KV cache of a request comes from prefill: room is taken from the first,
// but it runs only once it is there.
func ExampleBalancer_Start() {
	b := newUnit(decode.Config{Ranks: 1})
	_, err := b.Add(decode.Request{ID: 1, KV: 4000, Waiting: true})
	ok(err)
	b.Step()
	ok(b.Start(1))
	b.Step()
	kv, err := b.KV(1)
	ok(err)
	fmt.Println(kv)
	// Output:
	// 4001
}

// A rank dies: what it held is added again, elsewhere.
func ExampleBalancer_Dead() {
	b := newUnit(decode.Config{Ranks: 3})
	for id := range decode.ID(3) {
		ok(b.Enter(decode.Request{ID: id, KV: 2000}, int(id)))
	}
	lost, err := b.Dead(nil, 1)
	ok(err)
	for _, r := range lost {
		rank, err := b.Add(r)
		ok(err)
		fmt.Println("request", r.ID, "on a rank that serves:", rank != 1)
	}
	ok(b.Restore(1))
	fmt.Println(b.Rank(1).State)
	// Output:
	// request 1 on a rank that serves: true
	// serving
}

// A rank is emptied before it is taken away.
func ExampleBalancer_Drain() {
	b := newUnit(decode.Config{Ranks: 2})
	ok(b.Enter(decode.Request{ID: 1, KV: 2000}, 1))
	ok(b.Drain(1))
	fmt.Println("not empty yet:", errors.Is(b.Resize(1), decode.ErrState))
	ok(b.Move(1, 0)) // or wait until it is done
	ok(b.Resize(1))
	fmt.Println(b.Ranks())
	// Output:
	// not empty yet: true
	// 1
}

// The engine's list of a rank outweighs the ledger, after a restart say.
func ExampleBalancer_Sync() {
	b := newUnit(decode.Config{Ranks: 2})
	ok(b.Enter(decode.Request{ID: 1, KV: 1000}, 0))
	ok(b.Enter(decode.Request{ID: 2, KV: 1000}, 0))
	ok(b.Enter(decode.Request{ID: 3, KV: 1000}, 1))
	was, err := b.Sync(decode.Changes{}, 0, []decode.Request{{ID: 1, KV: 1010}, {ID: 3, KV: 1010}, {ID: 4, KV: 50}})
	ok(err)
	fmt.Println("entered", was.Entered, "gone", was.Gone, "moved", was.Moved)
	// Output:
	// entered [4] gone [2] moved [3]
}

// Long outputs have grown on one rank: one of them moves, or, where nothing
// helps, is preempted.
func ExampleBalancer_Rebalance() {
	b := newUnit(decode.Config{Ranks: 2, KVCapacity: []int64{100_000}})
	ok(b.Enter(decode.Request{ID: 1, KV: 60_000}, 0))
	ok(b.Enter(decode.Request{ID: 2, KV: 50_000}, 0))
	moves, err := b.Rebalance(nil, 1)
	ok(err)
	fmt.Println(len(moves), "move, above capacity:", b.Rank(0).Over, b.Rank(1).Over)

	ok(b.Enter(decode.Request{ID: 3, KV: 70_000}, 0))
	ok(b.Enter(decode.Request{ID: 4, KV: 70_000}, 1))
	for _, id := range b.Overfull(nil) {
		ok(b.Evict(id))
	}
	fmt.Println("above capacity:", b.Rank(0).Over, b.Rank(1).Over)
	// Output:
	// 1 move, above capacity: 0 0
	// above capacity: 0 0
}

// A router over several units takes the one that a request costs least.
func ExampleBalancer_Quote() {
	busy, idle := newUnit(decode.Config{Ranks: 4}), newUnit(decode.Config{Ranks: 4})
	for id := range decode.ID(400) {
		_, err := busy.Add(decode.Request{ID: id, KV: 5000})
		ok(err)
	}
	r := decode.Request{ID: 1000, KV: 5000, Output: 500}
	a, err := busy.Quote(r)
	ok(err)
	b, err := idle.Quote(r)
	ok(err)
	fmt.Println("idle is cheaper:", b.Seconds < a.Seconds)
	// Output:
	// idle is cheaper: true
}

// A ledger survives a restart, and decides as before.
func ExampleFromSnapshot() {
	b := newUnit(decode.Config{Ranks: 8})
	for id := range decode.ID(20) {
		_, err := b.Add(decode.Request{ID: id, KV: 1000 * int64(id+1)})
		ok(err)
	}
	restored, err := decode.FromSnapshot(b.AppendSnapshot(nil))
	ok(err)
	one, err := b.Add(decode.Request{ID: 99, KV: 3000})
	ok(err)
	other, err := restored.Add(decode.Request{ID: 99, KV: 3000})
	ok(err)
	fmt.Println(one == other)
	// Output:
	// true
}

// Two routers share a unit: what a rank says of itself tells each of the
// other's requests.
func ExampleBalancer_Report() {
	b := newUnit(decode.Config{Ranks: 2, Routers: 2, Router: 0})
	ok(b.Report(decode.Report{Rank: 0, Requests: 40, KV: 200_000}))
	rank, err := b.Add(decode.Request{ID: 1, KV: 1000})
	ok(err)
	fmt.Println("on rank", rank)
	// Output:
	// on rank 1
}
