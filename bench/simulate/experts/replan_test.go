package experts

import (
	"testing"

	"github.com/moelb/moelb/bench/cost"
)

// TestReplan: experts that follow the traffic are more even than those that stay where
// they were, of a unit with groups on nodes too; a second run on the same topics plans
// nothing anew and goes where the first did.
func TestReplan(t *testing.T) {
	const windows = 5
	gpu, err := cost.FindGPU("h800")
	if err != nil {
		t.Fatal(err)
	}
	for i, phase := range []cost.Phase{cost.PrefillPhase, cost.DecodePhase} {
		u := &cost.Unit{Model: cost.DeepSeekV3(), GPU: gpu, Factors: cost.Calibrated(), Phase: phase, Nodes: 2, Slots: 5}
		u.Model.Name, u.Model.Layers, u.Model.Experts = "tiny", 6, 64
		if grouped(u) != (i == 0) {
			t.Errorf("%v: groups on nodes: %v", u.Phase, grouped(u))
		}
		first, err := New(u, Optimal, TopicLoads(u, UsualTopics, windows+1, 1+uint64(i)<<16))
		if err != nil {
			t.Fatal(err)
		}
		run := func() *Experts {
			e := first.Clone(u)
			for range windows - 1 {
				if _, err := e.Advance(.004); err != nil {
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
		still := first.Clone(u)
		still.policy = Alone // stays on the first plan
		for range windows - 1 {
			if _, err := still.Advance(.004); err != nil {
				t.Fatal(err)
			}
		}
		if a.MeanImbalance() >= still.MeanImbalance() {
			t.Errorf("%v: %.4f followed, %.4f left alone", u.Phase, a.MeanImbalance(), still.MeanImbalance())
		}
		t.Logf("%v: %.4f followed with %d moves, %.4f left alone", u.Phase, a.MeanImbalance(), a.moves, still.MeanImbalance())
	}
}
