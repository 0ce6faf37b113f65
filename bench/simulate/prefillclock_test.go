package simulate

import (
	"math"
	"testing"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/prefill"
)

// TestPrefillClock: steps that look at some layers take, on average, what the closed
// form of package cost says of all of them.
func TestPrefillClock(t *testing.T) {
	c := tiny(ours())
	c.Prefill.Model.Layers, c.Prefill.GPU.Memory = 20, 30e9 // no multiple of layerTurns
	e, err := experts.New(&c.Prefill, experts.Optimal, experts.TopicLoads(&c.Prefill, experts.UsualTopics, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	k := newPrefillClock(&c.Prefill, e, c.MaxTokens, 1)
	ranks := c.Prefill.Ranks()
	var loads []lockstep.Load
	tokens := 0.0
	for g := range ranks {
		n := int64(3000 + 60*g)
		loads = append(loads, lockstep.Load{Tokens: n, Prefix: 500, Pairs: prefill.WorkOf(n, 500).Pairs})
		tokens += float64(n)
	}
	mean, work := 0.0, 0.0
	const steps = 3 * layerTurns
	for range steps {
		step, computed := k.seconds(loads)
		mean, work = mean+step/steps, work+computed/steps
	}
	s := cost.Prefill{Attention: make([]float64, ranks), Shared: make([]float64, ranks), Experts: make([]float64, ranks)}
	busy := 0.0
	for g, x := range loads {
		r := cost.PrefillRank{Tokens: float64(x.Tokens) / 2, Cached: 250, Pairs: float64(x.Pairs) / 2}
		s.Attention[g], _ = k.kernels.PrefillAttention(r)
		s.Shared[g] = k.kernels.PrefillShared(r.Tokens)
	}
	want := 0.0
	top := float64(loads[ranks-1].Tokens) / 2
	for l := range c.Prefill.Model.Layers {
		most := 0.0
		for g := range ranks {
			rows := tokens / 2 * float64(c.Prefill.Model.TopK) * e.Share(l)[g]
			most = max(most, e.Share(l)[g]*float64(ranks))
			s.Experts[g] = k.kernels.PrefillExperts(rows, c.Prefill.SlotsEach())
			busy += 2 * (s.Attention[g] + s.Shared[g] + s.Experts[g])
		}
		s.Dispatch, s.Combine = k.kernels.PrefillNetwork(top, tokens/2/float64(ranks), most, e.Busiest(l), ranks)
		want += s.Layer()
	}
	share := c.Prefill.StepShare()
	if got, want := mean*share, want; math.Abs(got/want-1) > .02 {
		t.Errorf("a step takes %v s, the closed form says %v", got, want)
	}
	if got := work * share; math.Abs(got/busy-1) > .02 {
		t.Errorf("GPUs compute for %v s in a step, the closed form says %v", got, busy)
	}
}
