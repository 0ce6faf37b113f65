package traffic

import (
	"math/rand/v2"
	"testing"
)

// Blocks are as long as tokens are alike: half of the pairs of equal tokens make loads
// vary by half as much again, and no longer blocks by more.
func TestBlock(t *testing.T) {
	for _, c := range []struct {
		run   int
		alike float64
		want  int
	}{{1, 0, 1}, {2, .5, 2}, {8, 1, 8}, {256, 1, longestBlock}} {
		rng := rand.New(rand.NewPCG(7, uint64(c.run)))
		tokens := &Tokens{K: 1}
		for range 8192 / c.run {
			e, same := rng.IntN(16), rng.Float64() < c.alike
			for range c.run {
				if !same {
					e = rng.IntN(16)
				}
				tokens.IDs = append(tokens.IDs, uint16(e))
			}
		}
		mean := meanOf(tokens, 16)
		if got := tokens.block(mean); got != c.want {
			t.Errorf("runs of %d alike with chance %v: blocks of %d, want %d", c.run, c.alike, got, c.want)
		}
		if tokens.Weight = make([]int64, tokens.Len()); tokens.block(mean) != 1 {
			t.Error("tokens with weights have an order")
		}
	}
}

// meanOf is how often a token chooses each expert.
func meanOf(t *Tokens, experts int) []float64 {
	mean, all := t.chosen(experts)
	for e := range mean {
		mean[e] /= all
	}
	return mean
}
