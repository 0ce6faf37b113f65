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
	// riskPrice is what a plan's risk may cost in nodes a token: far below, later loads
	// are less even than without routes, far above, tokens visit more nodes.
	riskPrice = 64
	// gpuPrice is what two experts of a token on one GPU are worth in nodes: as much as
	// decides among plans whose tokens visit as many nodes.
	gpuPrice = .02
)

// besides is what two experts on one of so many GPUs cost in nodes a token, each with all
// its tokens there, [experts][experts], from either side: half of what they may save a
// token, and their risk.
//
// A plan's risk is how much the loads of GPUs come and go with what tokens are about: the
// sum over GPUs of the variance of their load, relative to its mean, over as many other
// tokens as there are, 4,096 at least. Experts that are chosen together on one GPU raise
// it. Consecutive tokens of a text are about one thing, so that loads vary by twice and
// thrice what as many tokens at random would make them: what counts is how blocks of
// tokens vary, as long as it takes for blocks to be independent.
func (t *Tokens) besides(experts, gpus int) []float64 {
	mean, weight := t.chosen(experts)
	for e := range mean {
		mean[e] /= weight
	}
	block := t.block(mean)
	cov, pairs := t.together(experts, block), t.together(experts, 1)
	blocks, later := weight, float64(pairsLater) // weights are on any scale
	if t.Weight == nil {
		blocks, later = float64(t.Len()/block), max(weight, leastLater)
	}
	each := float64(t.K) / float64(gpus) // what a token loads a GPU with
	for i, n := range pairs {
		a, b := i/experts, i%experts
		x := cov[i]/(blocks*float64(block)) - float64(mean[a]*mean[b])*float64(block)
		if cov[i] = float64(riskPrice*x) / (float64(each*each) * later); a != b {
			cov[i] -= float64(gpuPrice/2*n) / weight
		}
	}
	return cov
}

// block is the shortest length, of powers of two, above which blocks of
// consecutive tokens do not vary more, a token; 1 where tokens have weights: their
// order then says nothing. mean is how often a token chooses each expert.
func (t *Tokens) block(mean []float64) int {
	var varies []float64 // of blocks of 1, 2, 4, ... tokens, a token
	counts := make([]float64, len(mean))
	for n := 1; n <= longestBlock && t.Len()/n >= leastBlocks && t.Weight == nil; n *= 2 {
		sum := 0.0
		for lo := 0; lo+n <= t.Len(); lo += n {
			clear(counts)
			for _, e := range t.IDs[lo*t.K : (lo+n)*t.K] {
				counts[e]++
			}
			for e, x := range counts {
				d := x - float64(mean[e]*float64(n))
				sum += float64(d * d)
			}
		}
		varies = append(varies, sum/float64(t.Len()/n*n))
	}
	for i, v := range varies {
		if slices.Max(varies[i:]) <= v*steady {
			return 1 << i
		}
	}
	return 1
}
