package cost

// Prefill is the stages of one micro-batch in one layer of prefill: those of
// computing by rank, [ranks], in seconds. The barrier is in the communication:
// a dispatch starts when the last rank has its attention done, a combine when
// the last has its experts done; Dispatch and Combine are those of the busiest
// GPU.
type Prefill struct {
	Attention, Shared, Experts []float64
	Dispatch, Combine          float64
}

// Layer is how long a layer takes by the published schedule, which computes two
// micro-batches by turns, each with these stages, while the other communicates:
//
//	compute  A1 S0 A0 M1 M0 S1
//	network  K0 (of the layer before) D1 D0 K1
//
// It is the longest cycle of dependencies that leads from a layer to the next,
// each run of computing being as long as it takes the slowest rank. It equals
// Timeline's period exactly where all layers are alike.
func (p *Prefill) Layer() float64 {
	d, k := p.Dispatch, p.Combine
	t := max(2*d+2*k, 0)
	longer := func(x float64) {
		if x > t {
			t = x
		}
	}
	for r, a := range p.Attention {
		s, m := p.Shared[r], p.Experts[r]
		longer(2 * (a + s + m))   // computing alone
		longer(a + 2*m + s + d)   // M1 M0 S1 A1
		longer(a + m + s + 2*d)   // M0 S1 A1
		longer(2*a + 2*s + m + d) // M0 S1 A1 S0 A0
		longer(2*m + d + k)       // M1 M0
		longer(m + d + k + max(d, k))
		longer(a + d + k + max(d, k))
		longer(2*a + s + d + k) // A1 S0 A0
		longer(2*a + s + m + k) // A1 S0 A0 M1
		longer(a + m + 2*k)     // A0 M1
		longer(a + 2*m + k)     // A0 M1 M0
	}
	a, m := most(p.Attention), most(p.Experts)
	return max(t, a+m+d+k)
}

// Decode is the stages of one micro-batch in one layer of decode. Before is the
// shared expert and the attention up to its core; After is the core and the rest.
type Decode struct {
	Before, After, Experts []float64
	Dispatch, Combine      float64
}

// HalfLayer is how long one micro-batch's share of a layer takes by the published
// schedule, with attention in two steps: while one micro-batch is dispatched the
// other runs Before, then the experts of the one, then, while it is combined,
// After of the other. It equals Timeline's period exactly where all layers are
// alike.
func (s *Decode) HalfLayer() float64 {
	t := 0.0
	for r, m := range s.Experts {
		p, q := s.Before[r], s.After[r]
		t = max(t, p+m+q, s.Dispatch+m+s.Combine, s.Dispatch+m+q, s.Combine+p+m)
	}
	return t
}

func most(x []float64) float64 {
	y := 0.0
	for _, v := range x {
		y = max(y, v)
	}
	return y
}
