package simulate

import (
	"sync"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/workload"
)

// tinyLayers is the layers with experts of tiny's model.
const tinyLayers = 6

// tiny is a system that simulates quickly: DeepSeek-V3 with a tenth of its layers, a
// quarter of its experts and requests of a tenth of the published lengths, on units of
// two nodes. Its steps take a tenth as long, so that seconds count for ten.
func tiny(p Policy) Config {
	c := Default(p)
	for _, u := range []*cost.Unit{&c.Prefill, &c.Decode} {
		u.Model.Name, u.Model.Layers, u.Model.DenseLayers, u.Model.Experts = "tiny", tinyLayers, 0, 64
		u.Factors.Host *= tinyLayers / 58.
		u.Nodes, u.Slots = 2, 5
		u.GPU.Memory = 14e9
	}
	c.MaxTokens, c.StoreTokens, c.BlockTokens = 4096, 1<<24, 64
	c.Seconds, c.Warm = 1.5, .5
	c.Past, c.PastTPOT = 3, .004
	c.Plan = []PlanStep{{0, Fleet{1, 1}}}
	return c
}

// brief is tiny with its run and none before it.
func brief(p Policy, seconds float64) Config {
	c := tiny(p)
	c.Seconds, c.Warm, c.Past = seconds, seconds/2, 0
	return c
}

// start is the experts of tiny as they are when a run begins.
var start = sync.OnceValue(func() Config {
	c := tiny(ours())
	c.setTopics(10)
	return c
})

// planned is a system with the experts of tiny, which are planned once for all tests
// that leave the units as they are.
func planned(c Config) Config {
	c.topics, c.starts = start().topics, start().starts
	return c
}

// tinyTraffic is the built-in traffic with an eighth of its lengths, and none that
// generates for long after the others.
type tinyTraffic struct {
	*workload.Traffic
	input, output float64 // against an eighth
}

func (t *tinyTraffic) Next() (workload.Request, bool) {
	q, ok := t.Traffic.Next()
	q.Input = max(1, int(t.input*float64(min(q.Input, 16000))/8))
	q.Output = max(1, int(t.output*float64(min(q.Output, 3000))/8))
	return q, ok
}

func tinyRequests(rate float64, seed uint64) *tinyTraffic {
	return &tinyTraffic{workload.Steady(rate, seed), 1, 1}
}
