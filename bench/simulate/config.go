package simulate

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/workload"
)

// Config is a system and its traffic.
type Config struct {
	Prefill, Decode cost.Unit
	Policy          Policy
	// Plan is the fleet over time; the first step is at second 0.
	Plan []PlanStep
	// MaxTokens is how many new tokens a prefill rank takes in one step.
	MaxTokens int64
	// MaxRequests is how many requests a decode rank holds.
	MaxRequests int
	// Concurrency is how many requests a decode unit holds for each of its ranks, on
	// average; 0 = MaxRequests. What comes beyond waits: it trades tokens a second
	// for the speed of each request.
	Concurrency float64
	// Queries is how many tokens a decode step verifies for a request; those beyond
	// the first are accepted with chance Acceptance.
	Queries    int
	Acceptance float64
	// Hit is the share of prompt tokens that the store of prefixes holds, where
	// the requests do not name their blocks; StoreTokens its size where they do, in
	// blocks of BlockTokens tokens.
	Hit         float64
	StoreTokens int64
	BlockTokens int
	// Seconds is how long requests come; what is under way then is served to its
	// end. The first Warm seconds are not measured.
	Seconds, Warm float64
	Seed          uint64
	// Topics is how many kinds of text the traffic mixes, each with hot experts of its
	// own.
	Topics int
	// Failures of ranks, GPUs, nodes and units.
	Failures []Failure
	// Past is how many seconds of requests came before the run starts: those that still
	// generate, at PastTPOT seconds a token, are in the decode units at its begin.
	Past, PastTPOT float64
	// TTFT and TPOT are what the first token and each further one shall take at most,
	// in seconds, for a request to count as good, and Percentile the share of requests
	// that shall be so; 0 = no such aim.
	TTFT, TPOT, Percentile float64
	// Only one phase: prompts leave when they are computed, or come computed.
	PrefillOnly, DecodeOnly bool
	// Backlog bounds how many requests wait for either phase; what comes then is
	// held at the API server and enters when there is room. 0 = no bound.
	Backlog int
	// Series is how many points the time series has; 0 = none.
	Series int
	// Progress is called now and then with the share that is done; nil = not.
	Progress func(float64)

	cut            bool                    // ends with Seconds: what is under way then is not served to its end
	topics         [2][]workload.Domain    // of prefill and decode; nil = made for the run
	record, played *tape                   // of prefill; nil = none
	starts         *[2][3]*experts.Experts // as they are at the start, by policy; runs on the same topics share them
}

// setTopics makes the experts' loads for runs of so many seconds.
func (c *Config) setTopics(seconds float64) {
	windows := int(seconds/experts.WindowSeconds) + 2
	for i, u := range []*cost.Unit{&c.Prefill, &c.Decode} {
		c.topics[i] = experts.TopicLoads(u, c.Topics, windows, c.Seed+uint64(i)<<16)
	}
	c.starts = &[2][3]*experts.Experts{}
}

// Default is a published pair of units, three for prefill and one for decode,
// with the given policy.
func Default(p Policy) Config {
	gpu, err := cost.FindGPU("h800")
	if err != nil {
		panic(err) // a preset
	}
	unit := cost.Unit{Model: cost.DeepSeekV3(), GPU: gpu, Factors: cost.Calibrated()}
	c := Config{Prefill: unit, Decode: unit, Policy: p, MaxTokens: 16384, MaxRequests: 128, Queries: 1, Topics: experts.UsualTopics, Hit: .563, StoreTokens: 1 << 29, BlockTokens: 512, Seconds: 600, Warm: 120, Seed: 1}
	c.Prefill.Phase, c.Prefill.Nodes = cost.PrefillPhase, 4
	c.Decode.Phase, c.Decode.Nodes = cost.DecodePhase, 18
	c.Plan = []PlanStep{{0, Fleet{3, 1}}}
	return c
}

// Limits on a run.
const (
	maxUnits   = 1 << 10
	maxSeconds = 7 * 86400
	maxTokens  = 1 << 24 // of one request
)

// Validate returns an error that names the field.
func (c *Config) Validate() error {
	for _, u := range []*cost.Unit{&c.Prefill, &c.Decode} {
		if err := u.Validate(); err != nil {
			return fmt.Errorf("%v unit: %w", u.Phase, err)
		}
	}
	switch {
	case c.Prefill.Phase != cost.PrefillPhase || c.Decode.Phase != cost.DecodePhase:
		return fmt.Errorf("units: a prefill and a decode unit are needed")
	case c.Policy.Prefill.New == nil || c.Policy.Decode.New == nil:
		return fmt.Errorf("policy: missing")
	case len(c.Plan) == 0 || c.Plan[0].Second != 0:
		return fmt.Errorf("plan: no fleet at second 0")
	case c.MaxTokens < 256 || c.MaxTokens > 1<<20:
		return fmt.Errorf("max_tokens: %d is not between 256 and 2^20", c.MaxTokens)
	case c.MaxRequests < 1 || c.MaxRequests > 1<<14:
		return fmt.Errorf("max_requests: %d is not between 1 and 2^14", c.MaxRequests)
	case !(c.Concurrency >= 0 && c.Concurrency <= 1<<14):
		return fmt.Errorf("concurrency: %v is not between 0 and 2^14", c.Concurrency)
	case c.Topics < 1 || c.Topics > 64:
		return fmt.Errorf("topics: %d is not between 1 and 64", c.Topics)
	case c.Queries < 1 || c.Queries > 16:
		return fmt.Errorf("queries: %d is not between 1 and 16", c.Queries)
	case !(c.Acceptance >= 0 && c.Acceptance <= 1):
		return fmt.Errorf("acceptance: %v is not a fraction", c.Acceptance)
	case !(c.Hit >= 0 && c.Hit < 1):
		return fmt.Errorf("hit: %v is not a fraction below 1", c.Hit)
	case c.BlockTokens < 1 || c.BlockTokens > 1<<20:
		return fmt.Errorf("block_tokens: %d is not between 1 and 2^20", c.BlockTokens)
	case c.StoreTokens < int64(c.BlockTokens) || c.StoreTokens/int64(c.BlockTokens) > 1<<28:
		return fmt.Errorf("store_tokens: %d is not between 1 and 2^28 blocks of %d", c.StoreTokens, c.BlockTokens)
	case !(c.Seconds > 0 && c.Seconds <= maxSeconds):
		return fmt.Errorf("seconds: %v is not between 0 and %d", c.Seconds, maxSeconds)
	case !(c.Warm >= 0 && c.Warm < c.Seconds):
		return fmt.Errorf("warm: %v is not below %v seconds", c.Warm, c.Seconds)
	case !(c.Past >= 0 && c.Past <= maxSeconds) || !(c.PastTPOT >= 0 && c.PastTPOT <= maxSeconds) || c.Past > 0 && c.PastTPOT == 0:
		return fmt.Errorf("past: %v seconds at %v a token", c.Past, c.PastTPOT)
	case !(c.TTFT >= 0) || !(c.TPOT >= 0) || !(c.Percentile >= 0 && c.Percentile < 1):
		return fmt.Errorf("aim: first token within %v s, others within %v s, for the share %v of requests", c.TTFT, c.TPOT, c.Percentile)
	case c.PrefillOnly && c.DecodeOnly:
		return fmt.Errorf("only one phase: which?")
	}
	last := math.Inf(-1)
	for i, s := range c.Plan {
		if s.Second <= last || s.Fleet.Prefill < 1 || s.Fleet.Decode < 1 || s.Fleet.Prefill > maxUnits || s.Fleet.Decode > maxUnits {
			return fmt.Errorf("plan: step %d: %d prefill and %d decode units at second %v", i, s.Fleet.Prefill, s.Fleet.Decode, s.Second)
		}
		last = s.Second
	}
	return c.validFailures()
}

// A Source yields requests in order of arrival.
type Source interface {
	Next() (workload.Request, bool)
}

// Result is what a run measured, from Warm on unless it says otherwise.
type Result struct {
	Policy   Policy
	Seconds  float64 // measured
	Requests int64   // of the whole run
	// LeftOut counts the requests, beside these, that are longer than a decode GPU's
	// room for KV.
	LeftOut int64
	// Failures counts the ranks that died, Returned the requests that lost their KV,
	// evicted ones among them, AgainTokens what was prefilled again for either.
	Failures, Returned, AgainTokens int64
	// Unstable: more requests wait at the end of the measured time than at its begin,
	// by more than chance: the fleet does not carry the load, and latencies would grow
	// for as long as it lasts. ServedPerSecond is then what it carries.
	Unstable bool
	// Served is the share of the measured time's requests, in tokens, that the phases
	// that ran kept up with.
	Served          float64
	InputTokens     int64
	HitTokens       int64
	OutputTokens    int64
	Evictions       int64
	TokensPerSecond float64 // generated
	InputPerSecond  float64 // prompt tokens whose prefill ended, cached ones counted
	ServedPerSecond float64 // requests whose last phase ended
	TTFT50, TTFT99  float64
	TPOT50, TPOT99  float64
	// TTFTAim and TPOTAim are at Config's Percentile; GoodPerSecond is the share of
	// ServedPerSecond that was as good as its aims.
	TTFTAim, TPOTAim, GoodPerSecond float64
	// Idle is the share of GPU time, over units while they are up, in which a GPU
	// computes nothing: it waits for others, for the network, or for work.
	Idle, PrefillIdle, DecodeIdle float64
	NodeSeconds                   float64 // of the whole run
	PeakInFlight                  int64
	End                           float64 // when the last request left
	// How uneven the work was: max/mean over the steps, long steps and full ones
	// counting more.
	PairsImbalance, TokensImbalance, KVImbalance, RequestsImbalance float64
	PrefillExperts, DecodeExperts                                   float64
	Moves                                                           int64
	MoveSeconds                                                     float64
	PrefillSteps, DecodeSteps                                       int64
	PrefillStep, DecodeStep                                         float64 // mean seconds
	Series                                                          []Point
	Heat                                                            Heat
}

// Point is one of a time series.
type Point struct {
	Second                   float64
	Output, Input            float64 // tokens a second
	InFlight, Queued         float64 // requests
	PrefillUnits, DecodeUnit float64 // up
	KVImbalance              float64
	TTFT                     float64 // mean of the requests whose first token fell here
}

// Heat is what the GPUs of the first units held at the end of the requests' time.
type Heat struct {
	Experts  [][]float64 // decode: load / mean by layer and GPU
	Prefill  [][]float64 // the same of prefill
	KV       []float64   // by GPU of decode unit 0, / mean
	Requests []float64
}
