package decode

import "math"

// Cost is what a lockstep step takes, in seconds: Step, and KV for each token of
// KV cache on the rank that holds most, and Request for each request on the rank
// that runs most. Only the ratios matter to decisions.
type Cost struct {
	KV      float64 `json:"kv"`
	Request float64 `json:"request"`
	Step    float64 `json:"step"`
}

// DeepSeekV3H800 is the cost of DeepSeek-V3 on a decode unit of 144 H800 GPUs:
// 48 ms at 88 requests of 4,989 tokens, of which KV use and request count each
// make 11.4.
func DeepSeekV3H800() Cost { return Cost{KV: 2.6e-8, Request: 1.3e-4, Step: 0.02515} }

// Config describes a decode unit. The zero value of every field but Ranks is its
// default.
type Config struct {
	Ranks       int       // data-parallel ranks, 1 to MaxRanks
	KVCapacity  []int64   // tokens of KV cache a rank holds, one for all or one a rank; 0 = no limit; nil = none
	Speed       []float64 // relative speed of each rank, one for all or one a rank; nil = all alike; 0 = it takes nothing new
	MaxRequests int       // requests a rank runs at once, each counted Width times; 0 = no limit
	Cost        Cost      // zero = DeepSeekV3H800()

	// Output is how many tokens a request is expected to generate that does not
	// say. Requests that finish outweigh it, gradually; 0 = it is not known.
	Output int64

	// Of Routers that share a unit, this is number Router, from 0: it tries the
	// ranks of its own share first (rank % Routers == Router), so that routers
	// which do not see each other's latest placements do not meet on one rank.
	// 0 = the only one, whose ledger is complete. See Report.
	Routers, Router int

	// Link is the bandwidth over which a running request's KV cache moves, in
	// tokens a second; 0 = 700,000 (50 GB/s at DeepSeek-V3's 70,272 bytes).
	Link float64
}

// Limits of what is accepted.
const (
	MaxRanks    = 1 << 16
	MaxTokens   = 1 << 30 // of one request
	MaxWidth    = 256
	MaxCapacity = 1 << 53 // of one rank, tokens
	MaxSpeed    = 1e6
)

// check fills in the defaults, but for the lists.
func (c *Config) check() error {
	for _, n := range []struct {
		field              string
		value, least, most int64
	}{
		{"ranks", int64(c.Ranks), 1, MaxRanks},
		{"max_requests", int64(c.MaxRequests), 0, MaxTokens},
		{"output", c.Output, 0, MaxTokens},
		{"routers", int64(c.Routers), 0, MaxRanks},
		{"router", int64(c.Router), 0, int64(max(c.Routers, 1) - 1)},
	} {
		if n.value < n.least || n.value > n.most {
			return errorf(ErrValue, n.field, -1, "%d is not from %d to %d", n.value, n.least, n.most)
		}
	}
	if n := len(c.KVCapacity); n > 1 && n != c.Ranks {
		return errorf(ErrValue, "kv_capacity", -1, "%d values for %d ranks", n, c.Ranks)
	}
	for g, x := range c.KVCapacity {
		if x < 0 || x > MaxCapacity {
			return errorf(ErrValue, "kv_capacity", g, "%d is not from 0 to 2^53", x)
		}
	}
	if n := len(c.Speed); n > 1 && n != c.Ranks {
		return errorf(ErrValue, "speed", -1, "%d values for %d ranks", n, c.Ranks)
	}
	for g, x := range c.Speed {
		if !(x >= 0 && x <= MaxSpeed) {
			return errorf(ErrValue, "speed", g, "%v is not from 0 to %v", x, float64(MaxSpeed))
		}
	}
	return c.checkCost()
}

func (c *Config) checkCost() error {
	if c.Cost == (Cost{}) {
		c.Cost = DeepSeekV3H800()
	}
	if c.Link == 0 {
		c.Link = 7e5
	}
	for _, x := range []struct {
		field string
		value float64
	}{{"cost.kv", c.Cost.KV}, {"cost.request", c.Cost.Request}, {"cost.step", c.Cost.Step}, {"link", c.Link}} {
		if !(x.value >= 0 && x.value <= 1e12) {
			return errorf(ErrValue, x.field, -1, "%v is not from 0 to 1e12", x.value)
		}
	}
	if c.Cost.KV == 0 && c.Cost.Request == 0 {
		return errorf(ErrValue, "cost", -1, "neither KV nor requests cost anything: there is nothing to balance")
	}
	return nil
}

// unlimited is the capacity of a rank that has no limit.
const unlimited = math.MaxInt64 / 4

// capacityOf is what rank g holds by the configuration; of ranks beyond its list,
// what the last one does.
func (c *Config) capacityOf(g int) int64 {
	if n := len(c.KVCapacity); n > 0 {
		if x := c.KVCapacity[min(g, n-1)]; x > 0 {
			return x
		}
	}
	return unlimited
}

func (c *Config) speedOf(g int) float64 {
	if n := len(c.Speed); n > 0 {
		return c.Speed[min(g, n-1)]
	}
	return 1
}
