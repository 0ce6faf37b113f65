package schedule

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// GPU 5 of the prefill unit dies; after 10 rounds of the restore GPU 9 dies; after
// 3 more the controller restarts from what it wrote down. No expert that had a
// living copy is ever lost.
func TestTwoFailuresAndARestart(t *testing.T) {
	model, unit := placement.DeepSeekV3(), placement.PrefillUnit()
	model.Layers = 12
	loads := workload.Experts(model, 1)
	plan := func(at *placement.Placement, dead ...int) *placement.Placement {
		u := unit
		u.Speed = slices.Repeat([]float64{1}, u.GPUs)
		for _, g := range dead {
			u.Speed[g] = 0
		}
		r, err := eplb.Plan(context.Background(), eplb.Problem{Loads: loads, Replicas: 288, Topology: u, Previous: at}, eplb.Options{Locality: eplb.Free})
		if err != nil {
			t.Fatal(err)
		}
		return &r.Placement
	}
	scheduled := func(at, to *placement.Placement, dead ...int) Schedule {
		u := unit
		u.Speed = slices.Repeat([]float64{1}, u.GPUs)
		for _, g := range dead {
			u.Speed[g] = 0
		}
		o := Options{ExpertBytes: model.ExpertBytes(), PerGPU: 2, RDMAPerGPU: 1, PeersPerGPU: 2, StagedBytes: 3 * model.ExpertBytes()}
		s, err := New(at, to, u, o)
		if err == nil {
			err = execute(&s, at, to, u, o)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// keep demands that what lived on a GPU that still lives does so after.
	keep := func(was, is *placement.Placement, dead ...int) {
		alive := func(p *placement.Placement, l, e int) bool {
			for s, x := range p.PhysicalToLogical[l] {
				if x == e && !slices.Contains(dead, s/9) {
					return true
				}
			}
			return false
		}
		for l := range model.Layers {
			for e := range model.Experts {
				if alive(was, l, e) && !alive(is, l, e) {
					t.Fatalf("layer %d loses expert %d", l, e)
				}
			}
		}
	}
	start := plan(nil)
	first := scheduled(start, plan(start, 5), 5)
	if len(first.Rounds) <= 10 {
		t.Fatalf("%d rounds: the second failure comes too late", len(first.Rounds))
	}
	// What must be done is done at any stakes, the rest as far as it pays.
	for _, horizon := range []float64{0, 1e12} {
		u := unit
		u.Speed = slices.Repeat([]float64{1}, u.GPUs)
		u.Speed[5] = 0
		k, err := first.Stakes(start, plan(start, 5), []placement.Loads{loads}, u, Stakes{StepSeconds: .05, Sensitivity: DecodeSensitivity(), Hidden: 1, Horizon: horizon})
		if err != nil {
			t.Fatal(err)
		}
		d, err := Decide(&first, k)
		if err != nil || !d.Move || d.Rounds < first.Restore || horizon == 0 && d.Rounds != first.Restore || horizon > 0 && d.GainPerStep <= 0 {
			t.Errorf("over %v steps: %v (%v)", horizon, d, err)
		}
	}
	then, err := first.Apply(start, 10)
	if err != nil {
		t.Fatal(err)
	}
	keep(start, &then, 5)
	// The second failure, in the middle.
	goal := plan(&then, 5, 9)
	second := scheduled(&then, goal, 5, 9)
	if second.Restore == 0 {
		t.Error("the second failure took no last copy: the story tells nothing")
	}
	now, err := second.Apply(&then, 3)
	if err != nil {
		t.Fatal(err)
	}
	keep(&then, &now, 5, 9)
	// The restart: all that is left is what was written.
	planText, err := json.Marshal(second)
	if err != nil {
		t.Fatal(err)
	}
	nowText, err := json.Marshal(now)
	if err != nil {
		t.Fatal(err)
	}
	var read Schedule
	var at placement.Placement
	if err := json.Unmarshal(planText, &read); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(nowText, &at); err != nil {
		t.Fatal(err)
	}
	for k := 3; k < len(read.Rounds); k++ {
		next, err := read.Resume(&at, k, k+1)
		if err != nil {
			t.Fatal(err)
		}
		keep(&at, &next, 5, 9)
		at = next
	}
	if !slices.EqualFunc(at.PhysicalToLogical, goal.PhysicalToLogical, slices.Equal[[]int]) || at.CheckComplete() != nil {
		t.Error("the end is not the plan")
	}
}
