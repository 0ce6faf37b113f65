package simulate

import (
	"math"
	"testing"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/prefill"
)

// TestReplan: experts that follow the traffic are more even than those that stay where
// they were, of a unit with groups on nodes too; a second run on the same topics plans
// nothing anew and goes where the first did.
func TestReplan(t *testing.T) {
	const windows = 5
	c := tiny(ours())
	c.setTopics(windows * windowSeconds)
	for i, u := range []*cost.Unit{&c.Prefill, &c.Decode} {
		if grouped(u) != (i == 0) {
			t.Errorf("%v: groups on nodes: %v", u.Phase, grouped(u))
		}
		first, err := newExperts(u, ExpertsOptimal, c.topics[i])
		if err != nil {
			t.Fatal(err)
		}
		run := func() *experts {
			e := first.clone(u)
			for range windows - 1 {
				if _, err := e.advance(.004); err != nil {
					t.Fatal(err)
				}
			}
			return e
		}
		a := run()
		planned := len(a.plans)
		b := run()
		if planned != windows-1 || len(a.plans) != planned || a.current != b.current || a.moves != b.moves || a.moveTime != b.moveTime {
			t.Errorf("%v: %d windows planned, then %d; %d and %d moves", u.Phase, planned, len(b.plans), a.moves, b.moves)
		}
		if a.moves == 0 || !(a.moveTime > 0) {
			t.Errorf("%v: %d moves in %v s", u.Phase, a.moves, a.moveTime)
		}
		still := first.clone(u)
		still.policy = ExpertsAlone // stays on the first plan
		for range windows - 1 {
			if _, err := still.advance(.004); err != nil {
				t.Fatal(err)
			}
		}
		if a.meanImbalance() >= still.meanImbalance() {
			t.Errorf("%v: %.4f followed, %.4f left alone", u.Phase, a.meanImbalance(), still.meanImbalance())
		}
		t.Logf("%v: %.4f followed with %d moves, %.4f left alone", u.Phase, a.meanImbalance(), a.moves, still.meanImbalance())
	}
}

// TestPrefillClock: steps that look at some layers take, on average, what the closed
// form of package cost says of all of them.
func TestPrefillClock(t *testing.T) {
	c := tiny(ours())
	c.Prefill.Model.Layers, c.Prefill.GPU.Memory = 20, 30e9 // no multiple of layerTurns
	e, err := newExperts(&c.Prefill, ExpertsOptimal, topicLoads(&c.Prefill, usualTopics, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	k := newPrefillClock(&c.Prefill, e, c.MaxTokens, 1)
	ranks := c.Prefill.Ranks()
	var chunks []prefill.Chunk
	tokens := 0.0
	for g := range ranks {
		n := int64(3000 + 60*g)
		chunks = append(chunks, prefill.Chunk{ID: prefill.ID(g), Rank: g, Tokens: n})
		tokens += float64(n)
	}
	mean, work := 0.0, 0.0
	const steps = 3 * layerTurns
	for range steps {
		step, computed := k.seconds(chunks, func(prefill.Chunk) int64 { return 500 })
		mean, work = mean+step/steps, work+computed/steps
	}
	s := cost.Prefill{Attention: make([]float64, ranks), Shared: make([]float64, ranks), Experts: make([]float64, ranks)}
	busy := 0.0
	for _, x := range chunks {
		r := cost.PrefillRank{Tokens: float64(x.Tokens) / 2, Cached: 250, Pairs: float64(prefill.WorkOf(x.Tokens, 500).Pairs) / 2}
		s.Attention[x.Rank], _ = k.kernels.PrefillAttention(r)
		s.Shared[x.Rank] = k.kernels.PrefillShared(r.Tokens)
	}
	want := 0.0
	top := float64(chunks[ranks-1].Tokens) / 2
	for l := range c.Prefill.Model.Layers {
		most := 0.0
		for g := range ranks {
			rows := tokens / 2 * float64(c.Prefill.Model.TopK) * e.share[l*ranks+g]
			most = max(most, e.share[l*ranks+g]*float64(ranks))
			s.Experts[g] = k.kernels.PrefillExperts(rows, c.Prefill.SlotsEach())
			busy += 2 * (s.Attention[g] + s.Shared[g] + s.Experts[g])
		}
		s.Dispatch, s.Combine = k.kernels.PrefillNetwork(top, tokens/2/float64(ranks), most, e.nodes[l], ranks)
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
