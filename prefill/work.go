package prefill

// Work is what a prompt, or a chunk of it, costs its rank.
type Work struct {
	// Tokens are the new tokens: each goes through every layer and is dispatched
	// to its experts.
	Tokens int64
	// Pairs are query-key pairs of core attention.
	Pairs int64
}

// WorkOf is the work of n new tokens after p that are cached or computed
// already: n*p + n(n+1)/2 pairs. A chunk of a long prompt sees the earlier
// chunks as cached. n and p must not be negative, and n+p at most MaxPrompt.
func WorkOf(n, p int64) Work { return Work{n, pairsOf(n, p)} }

func (w Work) plus(x Work) Work { return Work{w.Tokens + x.Tokens, w.Pairs + x.Pairs} }
func (w Work) less(x Work) Work { return Work{w.Tokens - x.Tokens, w.Pairs - x.Pairs} }

// MaxPrompt is the most tokens that a request may have.
const MaxPrompt = 1 << 28

func pairsOf(n, p int64) int64 { return n*p + n*(n+1)/2 }

// Cost says how long a lockstep step takes: Step + Pair times the most pairs of
// any rank + Token times the most tokens of any rank.
type Cost struct {
	Pair  float64 // seconds a query-key pair, over all layers
	Token float64 // seconds a new token, over all layers
	Step  float64 // seconds a step, however little it holds
	// Prefix is seconds per chunk and token of the prefix that the chunk sees:
	// what re-expanding cached latents costs. 0 = none.
	Prefix float64
}

// DeepSeekV3H800 is DeepSeek-V3 and R1 on H800, 4 nodes of 8 ranks: 61 layers of
// 81,920 FLOP a pair at 500 TFLOPS, and 148 us a token for all else. A full step
// of 4,096-token prompts then yields 47 thousand tokens a second and node, between
// the 32 thousand computed that DeepSeek published for its service and the 63
// thousand that its published profile amounts to.
func DeepSeekV3H800() Cost { return Cost{Pair: 9.994e-9, Token: 1.48e-4, Step: .02} }

// Seconds is how long a step takes whose most loaded ranks carry w.Tokens and
// w.Pairs.
func (c Cost) Seconds(w Work) float64 {
	return c.Step + float64(c.Pair*float64(w.Pairs)) + float64(c.Token*float64(w.Tokens))
}

// of is the seconds that work occupies a rank, without a step's own.
func (c Cost) of(w Work) float64 {
	return float64(c.Pair*float64(w.Pairs)) + float64(c.Token*float64(w.Tokens))
}
