// Package decode is the decode load balancer: it decides which data-parallel rank
// a request joins after prefill, so that over its whole life KV-cache use and
// request count are both even over the ranks. All ranks of a unit run in
// lockstep, so a step lasts as long as the rank of most KV use and the rank of
// most requests make it.
//
// No rule is best for every traffic, so the balancer has several and tries them all
// on a small model of the unit, fed with a share of the requests: it follows the
// one under which the model's steps were the shortest lately.
//
// New makes a Balancer of a unit; Add places a request, Batch several that
// arrived within a step, Done releases one, Step says that all that run grew by a
// token. Rebalance moves running requests, Drain, Restore, Dead and Resize follow
// the ranks' life, Report takes in what other routers did. A snapshot holds all
// there is to know.
//
// The package has no clock, no I/O, no goroutine and no global state, and the
// same calls give the same answers on every platform. It decides where requests
// go; that they go there is the caller's.
package decode
