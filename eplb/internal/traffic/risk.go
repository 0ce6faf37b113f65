package traffic

import "slices"

const (
	// mostCovaried is the most experts for which risk is known.
	mostCovaried = 1024
	// leastLater is the least tokens over which loads are thought to be measured later.
	leastLater = 4096
	// pairsLater is the same in tokens with weights, which are pairs: a token of eight
	// experts is 28.
	pairsLater = 8 * leastLater
	// longestBlock is the most consecutive tokens that are thought to be about one
	// thing, and leastBlocks the fewest blocks that tell what changes together.
	longestBlock = 64
	leastBlocks  = 32
	// steady is by how much longer blocks may vary more, a token, before tokens count
	// as alike over their length.
	steady = 1.15
)

// risk is how much the loads of GPUs come and go with what tokens are about: the sum
// over GPUs of the variance of their load, relative to its mean, over as many other
// tokens as there are, 4,096 at least. Experts that are chosen together on one GPU or
// on the GPUs of one node raise it. Consecutive tokens of a text are about one thing,
// so that loads vary by twice and thrice what as many tokens at random would make
// them: what counts is how blocks of tokens vary, as long as it takes for blocks to
// be independent. It takes replicas to share tokens evenly.
type risk struct {
	s     *state
	cov   []float64 // of two experts in a token, [experts][experts], over the scale
	value float64
	delta float64 // of the change at hand
}

func newRisk(s *state) *risk {
	t, experts := s.y.Tokens, len(s.at)
	mean, weight := t.mean(experts)
	block := t.block(mean)
	r := &risk{s: s, cov: make([]float64, experts*experts)}
	blocks := 0.0
	t.inBlocks(block, experts, func(w float64, counts []float64) {
		blocks += w
		for a, x := range counts {
			if x > 0 {
				for b, y := range counts {
					r.cov[a*experts+b] += float64(w * x * y)
				}
			}
		}
	})
	later := max(weight, leastLater)
	if t.Weight != nil { // on any scale
		later = pairsLater
	}
	each := float64(t.K) / float64(len(s.y.Node)) // what a token loads a GPU with
	scale := 1 / (float64(each*each) * later)
	// Two experts of a token on one GPU may save it a GPU: half of it from either side.
	pairs, price := t.pairs(experts), s.y.GPUPrice/s.y.RiskPrice/(2*weight)
	for i, x := range r.cov {
		x = (x/(blocks*float64(block)) - float64(mean[i/experts]*mean[i%experts])*float64(block)) * scale
		r.cov[i] = x - float64(price*float64(pairs[i]))
	}
	return r
}

// mean is how often a token chooses each expert, and the weight of all tokens.
func (t *Tokens) mean(experts int) (mean []float64, weight float64) {
	each, all := t.chosen(experts)
	for _, n := range each {
		mean = append(mean, float64(n)/float64(all))
	}
	return mean, float64(all)
}

// inBlocks calls do with how often each block of so many consecutive tokens chooses the
// experts, and with its weight, which is that of a token where blocks are one long.
func (t *Tokens) inBlocks(n, experts int, do func(weight float64, counts []float64)) {
	counts := make([]float64, experts)
	for lo := 0; lo+n <= t.Len(); lo += n {
		clear(counts)
		for _, e := range t.IDs[lo*t.K : (lo+n)*t.K] {
			counts[e]++
		}
		w := 1.0
		if n == 1 {
			w = float64(t.weight(int32(lo)))
		}
		do(w, counts)
	}
}

// block is the shortest length, of powers of two, above which blocks of
// consecutive tokens do not vary more, a token; 1 where tokens have weights: their
// order then says nothing. mean is how often a token chooses each expert.
func (t *Tokens) block(mean []float64) int {
	if t.Weight != nil {
		return 1
	}
	var varies []float64 // of blocks of 1, 2, 4, ... tokens, a token
	for n := 1; n <= longestBlock && t.Len()/n >= leastBlocks; n *= 2 {
		sum := 0.0
		t.inBlocks(n, len(mean), func(_ float64, counts []float64) {
			for e, x := range counts {
				d := x - float64(mean[e]*float64(n))
				sum += float64(d * d)
			}
		})
		varies = append(varies, sum/float64(t.Len()/n*n))
	}
	for i, v := range varies {
		if slices.Max(varies[i:]) <= v*steady {
			return 1 << i
		}
	}
	return 1
}

// count adds the risk up anew.
func (r *risk) count() {
	r.value = 0
	for g := range r.s.y.Node {
		for _, a := range r.s.slot[r.s.y.First[g]:r.s.y.First[g+1]] {
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
	for _, x := range s.slot[s.y.First[g]:s.y.First[g+1]] {
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
	cov := func(a, b int32) float64 { return r.cov[int(a)*len(s.at)+int(b)] }
	r.delta = 0
	for _, g := range s.touched {
		var by [2]float64
		for i := range s.change {
			c := &s.change[i]
			if by[i] = shareOn(c.at, g) - shareOn(s.at[c.e], g); by[i] != 0 {
				r.delta += float64(by[i] * (float64(2*r.with(c.e, g)) + float64(by[i]*cov(c.e, c.e))))
			}
		}
		r.delta += float64(2 * float64(by[0]*by[1]) * cov(s.change[0].e, s.change[1].e))
	}
	return r.delta
}

// shareOn is the share of an expert's tokens that its replica on GPU g gets.
func shareOn(gpus []int32, g int32) float64 {
	if slices.Contains(gpus, g) {
		return 1 / float64(len(gpus))
	}
	return 0
}
