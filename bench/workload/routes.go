package workload

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sort"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

const (
	// topicSpread is the spread of the logarithm of how much a topic likes an expert.
	topicSpread = 2
	// topics is how many there are: the first are the most frequent.
	topics = 12
)

// Routes returns the experts of so many tokens, in every layer: a token belongs to
// one of twelve topics, each of which likes experts of its own. Tokens of real text
// choose together more than that: the nodes that those of DeepSeek-V2-Lite visit
// fall by more when experts are placed for them.
func Routes(m placement.Model, tokens int, seed uint64) *placement.Routes {
	return routes(m, m.Groups, tokens, seed)
}

// LimitedRoutes are Routes under group-limited routing: a token first chooses so many
// of the model's groups, by what its topic likes in each, and its experts among theirs.
// DeepSeek-V3's tokens choose 4 groups of 8.
func LimitedRoutes(m placement.Model, groups, tokens int, seed uint64) *placement.Routes {
	return routes(m, groups, tokens, seed)
}

func routes(m placement.Model, groups, tokens int, seed uint64) *placement.Routes {
	r := rand.New(rand.NewPCG(seed, 1<<40))
	of := make([]int, tokens)
	for i := range of {
		of[i] = min(r.IntN(topics), r.IntN(topics))
	}
	out := &placement.Routes{TopK: m.TopK, IDs: make([][]uint16, m.Layers)}
	sums := make([]float64, topics*m.Experts)
	for l := range out.IDs {
		r := rand.New(rand.NewPCG(seed, uint64(l)))
		for t := range topics {
			sum := 0.0
			for e := range m.Experts {
				sum += exp(float64(topicSpread * normal(r)))
				sums[t*m.Experts+e] = sum
			}
		}
		ids := make([]uint16, 0, tokens*m.TopK)
		for _, t := range of {
			likes := sums[t*m.Experts : (t+1)*m.Experts]
			if groups < m.Groups {
				likes = among(likes, m.Groups, groups, r)
			}
			for n := len(ids); len(ids) < n+m.TopK; {
				e := sort.SearchFloat64s(likes, float64(r.Float64()*likes[m.Experts-1]))
				if e < m.Experts && !slices.Contains(ids[n:], uint16(e)) {
					ids = append(ids, uint16(e))
				}
			}
		}
		out.IDs[l] = ids
	}
	return out
}

// among is sums of likes, of experts in so many groups, where those of all but some
// groups are zero: these are drawn by what is liked in each.
func among(sums []float64, groups, some int, r *rand.Rand) []float64 {
	per := len(sums) / groups
	like := make([]float64, groups)
	for g := range like {
		like[g] = sums[(g+1)*per-1]
		if g > 0 {
			like[g] -= sums[g*per-1]
		}
	}
	chosen := make([]bool, groups)
	for range some {
		total := 0.0
		for g, x := range like {
			if !chosen[g] {
				total += x
			}
		}
		x, last := float64(r.Float64()*total), 0
		for g := range like {
			if chosen[g] {
				continue
			}
			last = g
			if x -= like[g]; x < 0 {
				break
			}
		}
		chosen[last] = true
	}
	out := make([]float64, len(sums))
	sum := 0.0
	for e, x := range sums {
		if chosen[e/per] {
			if e > 0 {
				x -= sums[e-1]
			}
			sum += x
		}
		out[e] = sum
	}
	return out
}

// esftTokens is what ESFTRoutes reads, of the data folder.
const esftTokens = "esft_deepseek_v2_lite_law_topk_ids.csv.gz"

// ESFTRoutes reads the measured experts of 8,327 tokens of legal text in
// DeepSeek-V2-Lite, six in each of 26 layers. Derived from
// github.com/deepseek-ai/ESFT.
func ESFTRoutes(dir string) (*placement.Routes, error) {
	r, err := formats.ReadRoutes(filepath.Join(dir, esftTokens), 0)
	if err != nil {
		return nil, err
	}
	return &r.Routes, nil
}
