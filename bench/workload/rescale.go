package workload

import "math"

// Rescaled is requests whose prompts and outputs are scaled by one factor each, so
// that a generated token has so many tokens of KV behind it on average, and prompts
// have so many tokens for each generated one. How lengths spread, and which go with
// which, stays as it is.
type Rescaled struct {
	Source interface{ Next() (Request, bool) }
	scale
}

type scale struct{ input, output float64 }

// Rescale finds the factors on a sample of requests.
func Rescale(sample []Request, kv, inputPerOutput float64) func(source interface{ Next() (Request, bool) }) *Rescaled {
	in, out, both, square := 0.0, 0.0, 0.0, 0.0
	for _, q := range sample {
		i, o := float64(q.Input), float64(q.Output)
		in, out, both, square = in+i, out+o, both+float64(i*o), square+float64(o*o)/2
	}
	var s scale
	ratio := inputPerOutput * out / in // of the factors
	s.output = kv * out / (float64(ratio*both) + square)
	s.input = ratio * s.output
	return func(source interface{ Next() (Request, bool) }) *Rescaled { return &Rescaled{source, s} }
}

// Next returns the next request.
func (r *Rescaled) Next() (Request, bool) {
	q, ok := r.Source.Next()
	q.Input = max(1, int(math.Round(float64(q.Input)*r.input)))
	q.Output = max(1, int(math.Round(float64(q.Output)*r.output)))
	q.Blocks = nil
	return q, ok
}
