// Package decode is the decode load balancer: it decides which data-parallel rank
// a request joins after prefill, so that over its whole life KV-cache use and
// request count are both even over the ranks. All ranks of a unit run in
// lockstep, so a step lasts as long as the rank of most KV use and the rank of
// most requests make it.
//
// New makes a Balancer of a unit, which is its ledger too. Requests have the
// caller's own ids.
//
//   - A request comes: Add places one, Batch several that arrived within a step;
//     Enter says that one is on a rank already; Quote what Add would answer and cost.
//   - It lives: Step says that all that run grew by a token, Grow, GrowAll and
//     Generated that some grew otherwise, Start that the KV cache of one that was
//     Waiting has come, Move that the engine brought one elsewhere.
//   - It ends: Done, it finished; Cancel, its client went away; Evict, the engine
//     preempted it. Only what finished says how long an output is; the rest say
//     that it is at least so long.
//   - A rank serves, is drained (Drain), dead (Dead, with all it held), or back
//     (Restore); Resize changes how many there are. Rebalance relieves ranks that
//     hold too much and moves what pays; Overfull names whom to preempt.
//   - What the engine knows beats what the ledger thinks: Sync takes over a rank's
//     own list, Report what a rank says to one of several routers.
//
// Where, KV, Rank, Stats, Known and StepSeconds tell what stands in the ledger. A
// snapshot (AppendSnapshot, FromSnapshot) holds all there is to know. Package prefill
// speaks the same language; Enqueue, its Step that forms chunks, and SetCached have no
// meaning here, and Batch, Grow, GrowAll, Generated, Start, Evict, Rebalance and
// Overfull none there.
//
// The package has no clock, no I/O, no goroutine and no global state, and the
// same calls give the same answers on every platform. It decides where requests
// go; that they go there is the caller's. It neither moves KV cache nor preempts.
package decode
