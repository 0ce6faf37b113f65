package workload

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/placement"
)

// tokensALayer is how many tokens pass through each layer of Experts.
const tokensALayer = 1 << 20

// groupShare is the spread of what the experts of a group share, relative to
// their own: the groups of group-limited routing are hot or cold together.
const groupShare = 0.2

// Experts returns the loads of the built-in example: a model's experts under
// traffic as skewed as what was published for DeepSeek-R1, where the hottest of
// 256 experts gets 11.9 times the mean (coefficient of variation 1.28) and the
// hottest of 32 GPUs, without balancing, 2.56 times (0.48). Layers differ as
// they do there: the first three are calm, the last but two is the most skewed,
// the last two are not. See the test for how near it comes.
//
// A load is the number of tokens routed to the expert: each of 2^20 tokens goes
// to m.TopK experts, so that every layer has the same sum.
func Experts(m placement.Model, seed uint64) placement.Loads {
	loads := placement.NewLoads(m.Layers, m.Experts)
	for l, row := range loads {
		r := rand.New(rand.NewPCG(seed, uint64(l)))
		sigma := spread(l, m.Layers, r)
		shared := 0.0
		for e := range row {
			if m.Groups > 1 && e%(m.Experts/m.Groups) == 0 {
				shared = float64(groupShare * normal(r))
			}
			row[e] = exp(float64(sigma * (shared + normal(r))))
		}
		limit(row, m.TopK)
		apportion(row, m.TopK*tokensALayer)
	}
	return loads
}

// spread is the standard deviation of the logarithm of the loads of layer l.
// The figures make the mean imbalance of 32 GPUs the published one: 1.46 to
// 1.54 in the first three layers, 3.46, 1.72 and 2.12 in the last three, 2.56
// over all.
func spread(l, layers int, r *rand.Rand) float64 {
	if layers > 6 {
		switch {
		case l < 3:
			return 0.51
		case l == layers-3:
			return 1.34
		case l == layers-2:
			return 0.66
		case l == layers-1:
			return 0.88
		}
	}
	return 0.87 + float64(0.35*r.Float64())
}

// limit lowers the largest weights so that no expert is due more than one of
// the topK choices of every token.
func limit(row []float64, topK int) {
	falling := slices.Sorted(slices.Values(row))
	slices.Reverse(falling)
	sum := 0.0
	for _, w := range falling {
		sum += w
	}
	left := topK
	for _, w := range falling {
		if left == 1 || float64(w*float64(left)) <= sum {
			break
		}
		sum -= w
		left--
	}
	for e, w := range row {
		row[e] = min(w, sum/float64(left))
	}
}

// apportion turns weights into whole tokens that add up to total: expert e gets
// what the rounded running sum grows by.
func apportion(row []float64, total int) {
	sum := 0.0
	for _, w := range row {
		sum += w
	}
	upTo, before := 0.0, 0.0
	for e, w := range row {
		upTo += w
		now := math.Round(float64(upTo/sum) * float64(total))
		row[e] = now - before
		before = now
	}
}

// Zipf returns loads that differ by a power law: in each layer the k-th hottest
// expert gets a share of k^-s, times a lognormal of spread 0.3, experts in
// random order; whole tokens, at least one each, total but for rounding a
// layer. It is the recipe behind the published comparisons of planners (58
// layers, 256 experts, 10^6 tokens, s = 0.8 and 1.2).
func Zipf(layers, experts int, s float64, total int, seed uint64) placement.Loads {
	loads := placement.NewLoads(layers, experts)
	for l, row := range loads {
		r := rand.New(rand.NewPCG(seed, uint64(l)))
		sum := 0.0
		for e := range row {
			row[e] = exp(float64(0.3*normal(r)) - float64(s*log(float64(e+1))))
			sum += row[e]
		}
		r.Shuffle(experts, func(i, j int) { row[i], row[j] = row[j], row[i] })
		for e, w := range row {
			row[e] = max(1, math.Round(float64(w/sum)*float64(total)))
		}
	}
	return loads
}
