package cost

// Prefill is the stages of one micro-batch in one layer of prefill: those of
// computing by rank, [ranks], in seconds. The barrier is in the communication:
// a dispatch starts when the last rank has its attention done, a combine when
// the last has its experts done; Dispatch and Combine are those of the busiest
// GPU.
type Prefill struct {
	Overlap                    Overlap
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
//
// Without two micro-batches it is that of one: its stages one after the other, or
// with two of them hidden, see SingleBatch.
func (p *Prefill) Layer() float64 {
	switch p.Overlap {
	case NoOverlap:
		before := 0.0
		for r, a := range p.Attention {
			before = max(before, a+p.Shared[r])
		}
		return before + p.Dispatch + most(p.Experts) + p.Combine
	case SingleBatch:
		return singleBatch(most(p.Attention), most(p.Shared), most(p.Experts), p.Dispatch, p.Combine)
	}
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

// secondProduct is the share of an expert's work that its second product is.
const secondProduct = 1.0 / 3

// singleBatch is a layer in which the shared expert runs beside the dispatch, and
// the combine beside the experts' second product.
func singleBatch(attention, shared, experts, dispatch, combine float64) float64 {
	return attention + max(dispatch, shared) + experts + max(0, combine-experts*secondProduct)
}

// Decode is the stages of one micro-batch in one layer of decode. Before is the
// shared expert and the attention up to its core; After is the core and the rest.
type Decode struct {
	Overlap Overlap
	// Shared is the part of Before that the shared expert is.
	Shared                 []float64
	Before, After, Experts []float64
	Dispatch, Combine      float64
}

// HalfLayer is how long one micro-batch's share of a layer takes by the published
// schedule, with attention in two steps: while one micro-batch is dispatched the
// other runs Before, then the experts of the one, then, while it is combined,
// After of the other. It equals Timeline's period exactly where all layers are
// alike.
//
// Without two micro-batches it is a whole layer of one.
func (s *Decode) HalfLayer() float64 {
	t := 0.0
	if s.Overlap != TwoBatch {
		shared := 0.0
		for r, p := range s.Before {
			if s.Overlap == SingleBatch {
				p -= s.Shared[r]
				shared = max(shared, s.Shared[r])
			}
			t = max(t, p+s.After[r])
		}
		if s.Overlap == SingleBatch {
			return singleBatch(t, shared, most(s.Experts), s.Dispatch, s.Combine)
		}
		return t + s.Dispatch + most(s.Experts) + s.Combine
	}
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
