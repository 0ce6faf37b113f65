package simulate

import (
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/decode"
)

// prefillUnit is one unit that computes prompts, step by step.
type prefillUnit struct {
	unitState
	lockstep.PrefillUnit
	clock  *prefillClock
	queued int64 // requests
	dead   []bool
}

// unitState is what prefill and decode units share.
type unitState struct {
	index    int
	next     int64 // end of the step that runs, or when to look again; never = idle
	stepping bool
	active   bool    // takes new requests
	up       bool    // holds its nodes: active or draining
	since    int64   // when it came up
	alive    int64   // ns up, before since
	computed float64 // GPU-seconds of computing
	busy     float64 // seconds in steps
	stalled  float64 // seconds stopped for expert moves
	stall    float64 // seconds to stop before the next step
	steps    int64
	holds    float64          // prefill: seconds of work not yet computed, on all ranks; decode: tokens of KV, with those that wait
	experts  *experts.Experts // its own, for some of its ranks are dead; nil = those of all
}

// decodeUnit is one unit that generates tokens, one a request and step.
type decodeUnit struct {
	unitState
	lockstep.DecodeUnit
	placer decode.Batcher
	clock  *decodeClock
	credit float64 // of tokens, the part of one that is saved up
	dead   []bool
	wait   []int32 // transferred or on their way, in order
}
