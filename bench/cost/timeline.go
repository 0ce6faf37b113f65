package cost

// Span is one stage on one lane of a timeline.
type Span struct {
	Stage string // A, S, M, D, K (prefill); P, M, Q, D, K (decode: P is Before, Q After)
	Micro int    // micro-batch 0 or 1
	Layer int
	// Rank is the GPU that computes; -1 = the network, which all share.
	Rank       int
	Start, End float64
}

// runner plays a schedule stage by stage: a rank computes one stage at a time in
// the schedule's order, and so does the network.
type runner struct {
	rank    []float64 // when each rank is free
	network float64
	carry   [2]float64 // what the next layer waits for beside the lanes
	ends    []float64  // of each layer's last combine
	spans   []Span
	keep    bool
}

// compute runs a stage on every rank, each as soon as it is free and after; it
// returns when the last is done.
func (r *runner) compute(stage string, micro, layer int, after float64, seconds []float64) float64 {
	last := 0.0
	for g := range r.rank {
		start := max(r.rank[g], after)
		r.rank[g] = start + seconds[g]
		last = max(last, r.rank[g])
		if r.keep {
			r.spans = append(r.spans, Span{stage, micro, layer, g, start, r.rank[g]})
		}
	}
	return last
}

// send occupies the network.
func (r *runner) send(stage string, micro, layer int, after, seconds float64) float64 {
	start := max(r.network, after)
	r.network = start + seconds
	if r.keep {
		r.spans = append(r.spans, Span{stage, micro, layer, -1, start, r.network})
	}
	return r.network
}

// Timeline plays the published schedule of prefill over layers, stage by stage,
// and returns its spans and when each layer's last combine ended, [layers].
func (p *Prefill) Timeline(layers int) ([]Span, []float64) {
	r := playPrefill(func(int) *Prefill { return p }, len(p.Attention), layers, true)
	return r.spans, r.ends
}

// playPrefill plays stages that may differ from layer to layer.
func playPrefill(at func(layer int) *Prefill, ranks, layers int, keep bool) *runner {
	r := &runner{rank: make([]float64, ranks), ends: make([]float64, layers), keep: keep}
	k0, k1 := 0.0, 0.0 // ends of the combines of the layer before
	for l := range layers {
		p := at(l)
		a1 := r.compute("A", 1, l, k1, p.Attention)
		d1 := r.send("D", 1, l, a1, p.Dispatch)
		r.compute("S", 0, l, 0, p.Shared)
		a0 := r.compute("A", 0, l, k0, p.Attention)
		d0 := r.send("D", 0, l, a0, p.Dispatch)
		m1 := r.compute("M", 1, l, d1, p.Experts)
		k1 = r.send("K", 1, l, m1, p.Combine)
		m0 := r.compute("M", 0, l, d0, p.Experts)
		k0 = r.send("K", 0, l, m0, p.Combine)
		r.compute("S", 1, l, 0, p.Shared)
		r.ends[l] = k0
	}
	r.carry = [2]float64{k0, k1}
	return r
}

// Timeline plays the published schedule of decode over half-layers, one for each
// micro-batch by turns, and returns its spans and when each half-layer's combine
// ended, [halves].
func (s *Decode) Timeline(halves int) ([]Span, []float64) {
	r := playDecode(func(int) *Decode { return s }, len(s.Experts), halves, true)
	return r.spans, r.ends
}

// playDecode plays stages that may differ from layer to layer.
func playDecode(at func(half int) *Decode, ranks, halves int, keep bool) *runner {
	r := &runner{rank: make([]float64, ranks), ends: make([]float64, halves), keep: keep}
	k, q := 0.0, 0.0 // ends of the last combine and of the last After
	for h := range halves {
		s, x, y := at(h), h%2, 1-h%2
		d := r.send("D", x, h/2, q, s.Dispatch)
		r.compute("P", y, h/2, k, s.Before)
		m := r.compute("M", x, h/2, d, s.Experts)
		k = r.send("K", x, h/2, m, s.Combine)
		q = r.compute("Q", y, h/2, 0, s.After)
		r.ends[h] = k
	}
	r.carry = [2]float64{k, q}
	return r
}
