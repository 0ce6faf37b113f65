package prefill

import (
	"math"
	"slices"

	"github.com/moelb/moelb/prefill/internal/pack"
)

// Config describes a unit. The zero value of each field but Ranks is the
// documented default.
type Config struct {
	Ranks int
	// MaxTokens is how many new tokens a rank takes in one step; 0 = no limit.
	MaxTokens int64
	// Cost is how long a step takes; zero = DeepSeekV3H800.
	Cost Cost
	// Speed is how fast each rank is, relative to Cost: one number a rank, or one
	// for all; none = 1. A rank of speed 0 takes nothing new. It is copied.
	Speed []float64
	// MaxKV bounds, for each rank, the tokens of the prompts that are on it, each
	// counted in full: one number a rank, or one for all; none, or 0, = no limit.
	// It is copied.
	MaxKV []int64
	// KeepKV: a prompt that Step has ended stays in its rank's KV, and its id known,
	// until Done says that the KV has gone, to a decode rank say. Without, it is gone
	// with its last chunk.
	KeepKV bool
	// StepSeconds bounds a step's time, but for a step of one smallest chunk; 0 = the
	// balancer decides.
	StepSeconds float64
	// Page: chunks but the last of a prompt are multiples of so many tokens; 0 = 1.
	Page int64
	// Patience is for how many seconds of the steps formed a higher Request.Priority
	// goes before a lower one at most. 0 = 20, negative = none.
	Patience float64
	// Routers is how many routers place on the unit beside each other, each with
	// a Balancer of its own and its number Router, 0 to Routers-1; 0 = 1. Router r
	// prefers the ranks g with g mod Routers = r: otherwise all would go for the same
	// rank until they hear of each other.
	Routers, Router int
}

// Limits of what is accepted.
const (
	MaxRanks = 1 << 16 // of a unit
	MaxSpeed = 1e6     // of a rank; the least above 0 is its reciprocal
)

// New returns a balancer for a unit whose ranks are all in service and idle.
// Errors: ErrValue.
func New(cfg Config) (*Balancer, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	b := &Balancer{cfg: cfg, cost: cfg.Cost, late: lateness{youngest: -1}}
	b.cfg.Speed, b.cfg.MaxKV = nil, nil
	if c := cfg.Cost; c.Pair > 0 {
		b.expand = int64(math.Round(min(c.Prefix/c.Pair, 1<<20)))
	}
	f := &b.former
	f.Cost, f.Expand, f.Page, f.StepSeconds = pack.Cost(b.cost), b.expand, cfg.Page, cfg.StepSeconds
	b.resize(cfg.Ranks, func(g int) rank {
		k := rank{state: Serving, speed: 1}
		if n := len(cfg.Speed); n > 0 {
			k.speed = cfg.Speed[min(g, n-1)]
		}
		if n := len(cfg.MaxKV); n > 0 {
			k.maxKV = cfg.MaxKV[min(g, n-1)]
		}
		return k
	})
	return b, nil
}

// complete puts the defaults in and reports what is wrong.
func (c *Config) complete() error {
	if c.Cost == (Cost{}) {
		c.Cost = DeepSeekV3H800()
	}
	if c.Routers == 0 {
		c.Routers = 1
	}
	switch x := &c.Cost; {
	case c.Ranks < 1 || c.Ranks > MaxRanks:
		return bad(ErrValue, "ranks", -1, "%d: from 1 to %d are needed", c.Ranks, MaxRanks)
	case c.MaxTokens < 0 || c.MaxTokens > MaxPrompt:
		return bad(ErrValue, "max_tokens", -1, "%d: from 0 to %d are needed", c.MaxTokens, int64(MaxPrompt))
	case !(x.Pair >= 0 && x.Token >= 0 && x.Step >= 0 && x.Prefix >= 0 && x.Pair <= 1 && x.Token <= 1 && x.Step <= 1e6 && x.Prefix <= 1):
		return bad(ErrValue, "cost", -1, "%v: seconds from 0 to 1 a pair and a token, to 10^6 a step, are needed", *x)
	case x.Pair == 0 && x.Token == 0:
		return bad(ErrValue, "cost", -1, "neither a pair nor a token costs anything")
	case len(c.Speed) > 1 && len(c.Speed) != c.Ranks:
		return bad(ErrValue, "speed", -1, "%d values for %d ranks", len(c.Speed), c.Ranks)
	case len(c.MaxKV) > 1 && len(c.MaxKV) != c.Ranks:
		return bad(ErrValue, "max_kv", -1, "%d values for %d ranks", len(c.MaxKV), c.Ranks)
	case !(c.StepSeconds >= 0 && c.StepSeconds <= 1e12):
		return bad(ErrValue, "step_seconds", -1, "%v is not a number of seconds", c.StepSeconds)
	case c.Page < 0 || c.Page > MaxPrompt || c.MaxTokens > 0 && c.Page > c.MaxTokens:
		return bad(ErrValue, "page", -1, "%d: from 0 to what a rank takes in one step are needed", c.Page)
	case !(math.Abs(c.Patience) <= 1e12):
		return bad(ErrValue, "patience", -1, "%v is not a number of seconds", c.Patience)
	case c.Routers < 0 || c.Router < 0 || c.Router >= c.Routers:
		return bad(ErrValue, "router", -1, "%d of %d", c.Router, c.Routers)
	}
	for g, s := range c.Speed {
		if s != 0 && !(s >= 1/MaxSpeed && s <= MaxSpeed) {
			return bad(ErrValue, "speed", g, "%v: 0, or from %v to %v, is needed", s, 1/MaxSpeed, MaxSpeed)
		}
	}
	for g, n := range c.MaxKV {
		if n < 0 {
			return bad(ErrValue, "max_kv", g, "%d is negative", n)
		}
	}
	switch {
	case c.Patience == 0:
		c.Patience = 20
	case c.Patience < 0:
		c.Patience = 0
	}
	return nil
}

// resize makes the unit's ranks n, the new ones as create says.
func (b *Balancer) resize(n int, create func(g int) rank) {
	old := len(b.ranks)
	b.ranks = slices.Grow(b.ranks, max(0, n-old))
	b.views = slices.Grow(b.views, max(0, n-old))
	for g := n; g < old; g++ {
		b.seen = b.seen.less(b.ranks[g].seen)
		b.ranks[g] = rank{}
	}
	b.ranks, b.views = b.ranks[:n], b.views[:n]
	for g := old; g < n; g++ {
		b.ranks[g] = create(g)
		b.views[g] = view{}
	}
	b.blocks = slices.Grow(b.blocks[:0], (n-1)/blockRanks+1)[:(n-1)/blockRanks+1]
	for i := range b.blocks {
		b.lookBlock(i)
	}
	b.serving()
}
