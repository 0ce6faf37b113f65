// Package prefill is the prefill load balancer: it decides which data-parallel
// rank of a unit computes which prompt, and how much of it in each lockstep step.
//
// All ranks of a unit run in lockstep, so a step lasts as long as its slowest rank:
// Cost.Step, and Cost.Pair for each query-key pair of the rank that has most, and
// Cost.Token for each new token of the rank that has most. Both maxima count, and
// evening out one leaves the other: where prompts are long, ranks with the same
// tokens differ several times over in pairs.
//
// A Balancer takes requests in one of two ways. Enqueue and Step form each step of
// all ranks jointly, cutting prompts into chunks; that evens out both loads. Add
// places a request on arrival, for engines that form their own steps; Report then
// keeps several routers, and late news, from herding onto one rank. Prefixes may be
// cached for all ranks or on each apart.
//
// What the engine knows beats what the ledger thinks. Enter takes in what is on a
// rank already, Move what has gone to another, and Sync a rank's whole list. A
// request ends with its last chunk from Step, or by Done, or by Cancel, which credits
// nothing. A rank serves, is drained (Drain), is dead (Dead) or is gone (Resize), and
// Restore brings it back. A dead rank gives back what it held: what was enqueued
// waits again with its age, what was added is listed and gone. AppendSnapshot and
// FromSnapshot carry a ledger over a restart, and Report and Sync heal one that is a
// moment old. Quote tells a router over several units what a request would cost this
// one.
//
// The words are those of package decode. Prefill has Enqueue, Step and SetCached,
// since it can form the steps itself, and Config.KeepKV for prompts that wait to be
// fetched. It has no Batch: Step places jointly what waits. It has no Evict: nothing
// is learned here from how a request ends, so Cancel says it. It has no Rebalance:
// prompts are short-lived, and a started one stays where its KV is.
//
// Done, Cancel, Report and SetCached cost O(1), Add and Quote O(ranks) or O(Among),
// Drain and Restore O(ranks) and what waits with caches of its own on each rank,
// Dead, Resize and snapshots O(ranks and requests), whatever was accepted or refused.
// Step says for itself. No call allocates but to hold more than ever before.
//
// The package has no clock, no I/O and no goroutines, and the same calls give the
// same answers on every platform. It does not decide when to prefill rather than
// decode, nor which request to refuse.
package prefill
