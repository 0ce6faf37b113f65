package prefill_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/moelb/moelb/prefill"
)

// newUnit is a balancer of some idle ranks.
func newUnit(c prefill.Config) *prefill.Balancer {
	b, err := prefill.New(c)
	ok(err)
	return b
}

func ok(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Of two prompts with the same beginning the second waits for the first, and
// has only its own end to compute.
func ExampleBalancer_Enqueue() {
	b := newUnit(prefill.Config{Ranks: 2, MaxTokens: 8192})
	ok(b.Enqueue(prefill.Request{ID: 1, Tokens: 4000}))
	ok(b.Enqueue(prefill.Request{ID: 2, Tokens: 4100, Leader: 1, Shared: 3968}))
	tokens := map[prefill.ID]int64{}
	for chunks := b.Step(nil); len(chunks) > 0; chunks = b.Step(nil) {
		for _, c := range chunks {
			tokens[c.ID] += c.Tokens
		}
	}
	fmt.Println(tokens[1], tokens[2])
	// Output:
	// 4000 132
}

// Ranks that decode too have less left for prefill in this step.
func ExampleBalancer_StepWithin() {
	b := newUnit(prefill.Config{Ranks: 2, MaxTokens: 8192})
	for id := range prefill.ID(8) {
		ok(b.Enqueue(prefill.Request{ID: id, Tokens: 1000}))
	}
	chunks, err := b.StepWithin(nil, []prefill.Budget{{Tokens: 2000, Seconds: 1}, {}})
	ok(err)
	tokens := make([]int64, b.Ranks())
	for _, c := range chunks {
		tokens[c.Rank] += c.Tokens
	}
	fmt.Println(tokens)
	// Output:
	// [2000 0]
}

// While a prompt waits, a rank comes to cache the most of it.
func ExampleBalancer_SetCached() {
	b := newUnit(prefill.Config{Ranks: 2})
	ok(b.Enqueue(prefill.Request{ID: 1, Tokens: 5000, CachedAt: []int64{0, 0}}))
	ok(b.SetCached(1, 1, 4096))
	for _, c := range b.Step(nil) {
		fmt.Println("rank", c.Rank, "computes", c.Tokens)
	}
	// Output:
	// rank 1 computes 904
}

// A rank dies: what was enqueued waits again, what was added is its caller's.
func ExampleBalancer_Dead() {
	b := newUnit(prefill.Config{Ranks: 2})
	ok(b.Enter(prefill.Request{ID: 1, Tokens: 9000}, 0))
	ok(b.Enter(prefill.Request{ID: 2, Tokens: 9000}, 1))
	lost, err := b.Dead(nil, 0)
	ok(err)
	for _, r := range lost {
		fmt.Println("request", r.ID, "queued again:", r.Queued)
		rank, err := b.Add(prefill.Request{ID: r.ID, Tokens: r.Tokens})
		ok(err)
		fmt.Println("now on rank", rank)
	}
	ok(b.Restore(0))
	// Output:
	// request 1 queued again: false
	// now on rank 1
}

// The engine's list of a rank outweighs the ledger, after a restart say.
func ExampleBalancer_Sync() {
	b := newUnit(prefill.Config{Ranks: 2})
	ok(b.Enter(prefill.Request{ID: 1, Tokens: 9000}, 0))
	ok(b.Enter(prefill.Request{ID: 2, Tokens: 9000}, 1))
	was, err := b.Sync(prefill.Changes{}, 0, []prefill.Running{{ID: 2, Tokens: 9000, Computed: 4096}, {ID: 3, Tokens: 100}})
	ok(err)
	fmt.Println("entered", was.Entered, "gone", was.Gone, "moved", was.Moved)
	// Output:
	// entered [3] gone [1] moved [2]
}

// A router over several units takes the one that a prompt lengthens least.
func ExampleBalancer_Quote() {
	busy, idle := newUnit(prefill.Config{Ranks: 4}), newUnit(prefill.Config{Ranks: 4})
	for id := range prefill.ID(40) {
		_, err := busy.Add(prefill.Request{ID: id, Tokens: 8000})
		ok(err)
	}
	r := prefill.Request{ID: 1000, Tokens: 8000}
	a, err := busy.Quote(r)
	ok(err)
	b, err := idle.Quote(r)
	ok(err)
	fmt.Println("idle is cheaper:", b.Seconds < a.Seconds)
	// Output:
	// idle is cheaper: true
}

// Ranks that some prompts may not take, and one that leaves.
func ExampleBalancer_Drain() {
	b := newUnit(prefill.Config{Ranks: 3})
	ok(b.Drain(2))
	rank, err := b.Add(prefill.Request{ID: 1, Tokens: 500, Among: []int{1, 2}})
	ok(err)
	fmt.Println("on rank", rank)
	ok(b.Resize(2))
	_, err = b.Add(prefill.Request{ID: 1, Tokens: 500})
	fmt.Println("known:", errors.Is(err, prefill.ErrKnown))
	ok(b.Cancel(1)) // its client went away
	fmt.Println(b.Stats().Ranks[1].Requests)
	// Output:
	// on rank 1
	// known: true
	// 0
}

// Two routers share a unit: what a rank says of itself tells each of the
// other's requests.
func ExampleBalancer_Report() {
	b := newUnit(prefill.Config{Ranks: 2, Routers: 2, Router: 0})
	ok(b.Report(prefill.Report{Rank: 0, Work: prefill.Work{Tokens: 50_000, Pairs: 1e9}}))
	rank, err := b.Add(prefill.Request{ID: 1, Tokens: 1000})
	ok(err)
	fmt.Println("on rank", rank)
	// Output:
	// on rank 1
}

// A ledger survives a restart, and decides as before.
func ExampleFromSnapshot() {
	b := newUnit(prefill.Config{Ranks: 8, MaxTokens: 4096})
	for id := range prefill.ID(20) {
		ok(b.Enqueue(prefill.Request{ID: id, Tokens: 1000 * int64(id+1)}))
	}
	b.Step(nil)
	restored, err := prefill.FromSnapshot(b.AppendSnapshot(nil))
	ok(err)
	fmt.Println(fmt.Sprint(b.Step(nil)) == fmt.Sprint(restored.Step(nil)))
	// Output:
	// true
}
