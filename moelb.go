// Package moelb holds the version of this module, which balances the load of
// large-scale Mixture-of-Experts inference. What it does is in its packages:
//
//   - placement: the words they share, as topology, loads, placement and moves;
//     placement/formats reads and writes the files of inference engines.
//   - eplb: the expert-parallel load balancer. It decides how many replicas each
//     expert gets and on which GPU each sits, with a proved bound. Beside it,
//     eplb/split shares a batch's tokens over replicas, eplb/schedule brings a
//     placement into force in rounds of copies, and eplb/track follows loads.
//   - prefill and decode: the balancers of requests over the ranks of a unit.
//
// Command cmd/moelb does the same with files, wrapper/c and wrapper/python for
// other languages, and examples holds programs to start from.
package moelb

// Version is the version of this source.
const Version = "0.1.0"
