package workload

import "math/rand/v2"

// Conversations makes the prompts of conversations about documents: each turn's
// prompt is the one before with a new end, and one conversation in four starts
// from a document of tens of thousands of tokens. Blocks tell the shared prefixes.
// Turns arrive one a second, but for noise, each some minutes after the one before.
func Conversations(n int, seed uint64) []Request {
	r := rand.New(rand.NewPCG(seed, 5))
	type talk struct {
		input  int
		blocks []int64
	}
	var open []talk
	requests := make([]Request, n)
	next := int64(0)
	for i := range requests {
		t := talk{}
		if len(open) > 150 && r.IntN(3) > 0 {
			k := r.IntN(len(open))
			t = open[k]
			t.input += around(r, 900, 2)
			open[k] = open[len(open)-1]
			open = open[:len(open)-1]
		} else if r.IntN(4) == 0 {
			t.input = around(r, 25000, 2)
		} else {
			t.input = around(r, 1500, 3)
		}
		t.input = min(t.input, 120_000)
		whole := len(t.blocks)
		blocks := append([]int64(nil), t.blocks...)
		for ; whole < t.input/512; whole++ {
			blocks = append(blocks, next)
			next++
		}
		t.blocks = blocks
		open = append(open, t)
		requests[i] = Request{Arrival: float64(i) + r.Float64(), Input: t.input, Output: around(r, 250, 2), Blocks: blocks}
	}
	return requests
}
