// Package lockstep has the units of a simulation, GPUs that step together, and the
// requests on them: who holds how much. Package simulate makes a system of units of
// both phases with a model of their time; Decode and Prefill here play a load on one
// unit whose time is a line, as evidence for the balancers.
package lockstep

// Request is one on its way through prefill and decode. Units know it by its index in
// a slice that they share.
type Request struct {
	Arrival, First   int64 // ns; First = its first token, -1 = before the run
	Ready            int64 // ns: when its KV has reached the decode unit
	Blocks           []int64
	Copy             int64 // of the trace, whose prompts share their blocks
	ends             int64 // the tick of its decode unit in which it ends
	Came             int32 // how many arrived before it, in a run that has a tape
	Prompt           int32 // tokens as it came
	Output           int32 // tokens it will have generated
	Input            int32 // tokens to prefill: the prompt, and what was generated before an eviction
	Cached           int32 // of its prompt; of one that ran before the run, the tokens that it had generated
	Done             int32 // tokens computed or cached
	Made             int32 // tokens generated, as of when it last joined or left a decode rank
	Rank             int32 // that it is on; -1 = it waits
	Prefill, Decode  int32 // its units
	next, prev, ring int32 // on its decode rank, latest first; next of those that end in the same tick
}

// KV is the tokens that a request keeps.
func (q *Request) KV() int64 { return int64(q.Prompt) + int64(q.Made) }
