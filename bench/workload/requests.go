package workload

import (
	"math"
	"math/rand/v2"
)

// Chat makes requests like those of a chat service with documents: prompts of
// a few hundred tokens and, one in eight, long ones of up to 64k; outputs of a few
// hundred. They arrive evenly but for noise, one a second.
func Chat(n int, seed uint64) []Request {
	r := rand.New(rand.NewPCG(seed, 3))
	requests := make([]Request, n)
	for i := range requests {
		in, out := around(r, 700, 3), around(r, 220, 2)
		if r.IntN(8) == 0 {
			in = around(r, 9000, 2)
		}
		requests[i] = Request{Arrival: float64(i) + r.Float64(), Input: min(in, 1<<16), Output: min(out, 4096)}
	}
	return requests
}

// Reason makes requests like those of a reasoning model: short prompts and
// outputs of thousands of tokens.
func Reason(n int, seed uint64) []Request {
	r := rand.New(rand.NewPCG(seed, 4))
	requests := make([]Request, n)
	for i := range requests {
		requests[i] = Request{Arrival: float64(i) + r.Float64(), Input: min(around(r, 600, 3), 1<<15), Output: min(around(r, 1100, 2), 1<<14)}
	}
	return requests
}

// Code makes requests like those of code completion: prompts with two peaks, of
// files and of fragments, and answers of a line or two.
func Code(n int, seed uint64) []Request {
	r := rand.New(rand.NewPCG(seed, 6))
	requests := make([]Request, n)
	for i := range requests {
		in := around(r, 900, 2)
		if r.IntN(5) < 2 {
			in = around(r, 5000, 1)
		}
		requests[i] = Request{Arrival: float64(i) + r.Float64(), Input: min(in, 7500), Output: around(r, 16, 2)}
	}
	return requests
}

// around draws a count around the middle, by a factor whose logarithm to base 2
// is triangular in [-width, width]. It is built from powers of two and
// operations that every platform rounds alike.
func around(r *rand.Rand, middle, width float64) int {
	x := (r.Float64() + r.Float64() - 1) * width
	whole := math.Floor(x)
	return int(math.Ldexp(middle*(1+(x-whole)), int(whole)))
}

// ScaleInputs returns the requests with their prompts scaled by one factor, so
// that those that run at a random moment hold so many tokens on average.
// Requests without output are left out.
func ScaleInputs(requests []Request, kv float64) []Request {
	outputs, grown, prompts := 0.0, 0.0, 0.0
	kept := make([]Request, 0, len(requests))
	for _, q := range requests {
		if o := float64(q.Output); o > 0 {
			kept = append(kept, q)
			outputs += o
			grown += o * o / 2
			prompts += float64(q.Input) * o
		}
	}
	scale := max(0.1, (kv*outputs-grown)/prompts)
	for i := range kept {
		kept[i].Input = max(1, int(math.Round(float64(kept[i].Input)*scale)))
		kept[i].Blocks = nil
	}
	return kept
}
