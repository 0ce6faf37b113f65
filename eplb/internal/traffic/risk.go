package traffic

const (
	// mostCovaried is the most experts for which risk is known.
	mostCovaried = 1024
	// leastLater is the least tokens over which loads are thought to be measured later.
	leastLater = 4096
)

// risk is how much the loads of GPUs come and go with what tokens are about: the sum
// over GPUs of the variance of their load, relative to its mean, over as many other
// tokens as there are, 4,096 at least. Experts that are chosen together on one GPU or on the GPUs of
// one node raise it. It takes replicas to share tokens evenly.
type risk struct {
	s     *state
	cov   []float64 // of two experts in a token, [experts][experts], over the scale
	value float64
	delta float64 // of the change at hand
}

// newRisk is nil where there are no tokens, or too many experts.
func newRisk(s *state) *risk {
	t, experts := s.y.Tokens, len(s.at)
	if t == nil || t.Len() == 0 || experts > mostCovaried {
		return nil
	}
	r := &risk{s: s, cov: make([]float64, experts*experts)}
	count := make([]float64, experts)
	weight := 0.0
	for i := range t.Len() {
		w := float64(t.weight(int32(i)))
		weight += w
		token := t.of(int32(i))
		for _, a := range token {
			count[a] += w
			for _, b := range token {
				r.cov[int(a)*experts+int(b)] += w
			}
		}
	}
	mean := float64(t.K) / float64(len(s.u.Node)) // what a token loads a GPU with
	scale := 1 / (float64(mean*mean) * max(weight, leastLater))
	for a := range experts {
		for b := range experts {
			c := &r.cov[a*experts+b]
			*c = (*c/weight - float64(count[a]/weight*(count[b]/weight))) * scale
		}
	}
	r.count()
	return r
}

// count adds the risk up anew.
func (r *risk) count() {
	r.value = 0
	for g := range r.s.u.Node {
		for _, a := range r.s.slot[r.s.u.First[g]:r.s.u.First[g+1]] {
			if a >= 0 {
				r.value += float64(r.with(a, int32(g)) / float64(len(r.s.at[a])))
			}
		}
	}
}

// with is the covariance of expert e with the load of GPU g.
func (r *risk) with(e, g int32) float64 {
	s := r.s
	row := r.cov[int(e)*len(s.at) : (int(e)+1)*len(s.at)]
	sum := 0.0
	for _, x := range s.slot[s.u.First[g]:s.u.First[g+1]] {
		if x >= 0 {
			sum += row[x] / float64(len(s.at[x]))
		}
	}
	return sum
}

// weigh returns by how much the change at hand, weighed before for its loads,
// changes the risk.
func (r *risk) weigh() float64 {
	s := r.s
	a, b := &s.change[0], &s.change[1]
	experts := len(s.at)
	r.delta = 0
	for _, g := range s.touched {
		da, db := shareOn(a.at, g)-shareOn(s.at[a.e], g), shareOn(b.at, g)-shareOn(s.at[b.e], g)
		if da != 0 {
			r.delta += float64(da * (float64(2*r.with(a.e, g)) + float64(da*r.cov[int(a.e)*experts+int(a.e)])))
		}
		if db != 0 {
			r.delta += float64(db * (float64(2*r.with(b.e, g)) + float64(db*r.cov[int(b.e)*experts+int(b.e)])))
		}
		r.delta += float64(2 * float64(da*db) * r.cov[int(a.e)*experts+int(b.e)])
	}
	return r.delta
}

// shareOn is the share of an expert's tokens that its replica on GPU g gets.
func shareOn(gpus []int32, g int32) float64 {
	for _, x := range gpus {
		if x == g {
			return 1 / float64(len(gpus))
		}
	}
	return 0
}
