package simulate

import (
	"math/rand/v2"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/prefill"
)

// prefillClock says how long a prefill step takes.
type prefillClock struct {
	kernels cost.Kernels
	unit    *cost.Unit
	experts *experts.Experts
	rows    *table
	stage   cost.Prefill
	rank    []cost.PrefillRank // of one micro-batch
	noise   rand.PCG
	turn    int // of its layers
	// attention, tokens: sums of max/mean, for the report.
	maxPairs, meanPairs, maxTokens, meanTokens float64
}

func newPrefillClock(u *cost.Unit, e *experts.Experts, maxTokens int64, seed uint64) *prefillClock {
	n := u.Groups()
	c := &prefillClock{kernels: u.Kernels(), unit: u, experts: e, rank: make([]cost.PrefillRank, n)}
	c.noise.Seed(seed, 1)
	c.stage = cost.Prefill{Overlap: u.Overlap, Attention: make([]float64, n), Shared: make([]float64, n), Experts: make([]float64, n)}
	slots := u.SlotsEach()
	c.rows = newTable(float64(maxTokens)*4*float64(u.Model.TopK), 4096, func(x float64) float64 { return c.kernels.PrefillExperts(x, slots) })
	return c
}

// seconds is how long a step lasts in which ranks have these loads, and how many
// GPU-seconds of it are computing.
func (c *prefillClock) seconds(loads []lockstep.Load) (step, computed float64) {
	// Of GPUs that share attention each has its part of the tokens.
	shared := c.unit.Ranks() / len(c.rank)
	batches := c.unit.Batches() * float64(shared)
	for g, l := range loads {
		c.rank[g] = cost.PrefillRank{Tokens: float64(l.Tokens) / batches, Cached: float64(l.Prefix) / batches, Pairs: float64(l.Pairs) / batches}
	}
	n, gpus := float64(len(c.rank)), c.unit.Ranks()
	sum, top, dense, work, topPairs, sumPairs := 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
	for g, r := range c.rank {
		a, _ := c.kernels.PrefillAttention(r)
		s := c.kernels.PrefillShared(r.Tokens)
		c.stage.Attention[g], c.stage.Shared[g] = a, s
		d := c.unit.Batches() * c.kernels.PrefillDense(a, r.Tokens)
		dense = max(dense, d)
		work += float64(shared) * (float64(c.unit.Batches()*float64(c.unit.Model.Layers)*(a+s)) + float64(c.unit.Model.DenseLayers)*d)
		sum, top = sum+r.Tokens, max(top, r.Tokens)
		sumPairs, topPairs = sumPairs+r.Pairs, max(topPairs, r.Pairs)
	}
	c.maxTokens, c.meanTokens = c.maxTokens+top, c.meanTokens+sum/n
	c.maxPairs, c.meanPairs = c.maxPairs+topPairs, c.meanPairs+sumPairs/n
	routed := sum * float64(shared) * float64(c.unit.Model.TopK)
	meanRows := routed / float64(gpus)
	// Some of the layers stand for all, others in the next step. Received tokens enter
	// both communication stages alike, by their excess.
	layers, looked := c.unit.Model.Layers, 0
	routedWork := 0.0
	for l := c.turn; l < layers; l += layerTurns {
		looked++
		share := c.experts.Share(l)
		received := 0.0
		clear(c.stage.Experts)
		for g, x := range share {
			rows := scatter(c.noise.Uint64(), routed*x)
			received = max(received, rows)
			m := c.rows.value(rows)
			c.stage.Experts[g/shared] = max(c.stage.Experts[g/shared], m)
			routedWork += c.unit.Batches() * m
		}
		c.stage.Dispatch, c.stage.Combine = c.kernels.PrefillNetwork(top, sum/n, received/meanRows, c.experts.Busiest(l), gpus)
		step += c.stage.Layer()
	}
	c.turn = (c.turn + 1) % min(layerTurns, layers)
	step, work = step*float64(layers)/float64(looked), work+routedWork*float64(layers)/float64(looked)
	step += float64(c.unit.Model.DenseLayers) * dense
	return step / c.unit.StepShare(), work / c.unit.StepShare()
}

// layerTurns is in how many steps every layer's experts are looked at once.
const layerTurns = 8

// prefillCost is the unit's cost as a balancer wants it: a line through the times
// of even steps of all the tokens that one takes and of an eighth of them, and what
// pairs and the prefixes of chunks add.
func prefillCost(u *cost.Unit, maxTokens int64) (prefill.Cost, error) {
	const prompt = 256 // hardly any pairs
	tokens := [2]float64{float64(maxTokens) / 8, float64(maxTokens)}
	var seconds [2]float64
	for i, n := range tokens {
		e, err := u.Estimate(cost.Batch{Tokens: n, Prompt: prompt, Attention: 1, Senders: 1, Experts: 1})
		if err != nil {
			return prefill.Cost{}, err
		}
		seconds[i] = e.StepSeconds
	}
	// What no step is shorter than.
	e, err := u.Estimate(cost.Batch{Tokens: 16, Prompt: 16, Attention: 1, Senders: 1, Experts: 1})
	if err != nil {
		return prefill.Cost{}, err
	}
	k := u.Kernels()
	layers := float64(u.Model.AllLayers()) / u.StepShare()
	attention := func(cached, pairs float64) float64 {
		a, _ := k.PrefillAttention(cost.PrefillRank{Tokens: tokens[1], Cached: cached, Pairs: pairs})
		return float64(layers * a)
	}
	const many = 1e8
	c := prefill.Cost{Pair: (attention(0, many) - attention(0, 0)) / many, Prefix: (attention(tokens[1], 0) - attention(0, 0)) / tokens[1]}
	c.Token = (seconds[1]-seconds[0])/(tokens[1]-tokens[0]) - float64(c.Pair*prompt/2)
	c.Step = max(e.StepSeconds, seconds[0]-float64((c.Token+float64(c.Pair*prompt/2))*tokens[0]))
	// A rank's tokens are shared by its GPUs.
	shared := float64(u.Ranks() / u.Groups())
	c.Pair, c.Token, c.Prefix = c.Pair/shared, c.Token/shared, c.Prefix/shared
	return c, nil
}
