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
// The package has no clock, no I/O and no goroutines, and the same calls give the
// same answers on every platform. It does not decide when to prefill rather than
// decode, nor which request to refuse.
package prefill
