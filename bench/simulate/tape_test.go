package simulate

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moelb/moelb/bench/cost"
)

// TestTape: a run that plays the prefill steps of an earlier one is the run that forms
// them, to the bit; where a request returns to prefill the tape is refused, and the
// run is made without it.
func TestTape(t *testing.T) {
	traffic := Traffic{New: func(rate float64) Source { return tinyRequests(rate, 1) }}
	decode := DecodePolicies()
	turns := decode[len(decode)-1]
	for _, tight := range []bool{false, true} {
		c := planned(brief(ours(), 1.6))
		c.Plan = []PlanStep{{0, Fleet{2, 1}}, {.8, Fleet{1, 1}}, {1.2, Fleet{2, 2}}}
		c.setTopics(c.Seconds)
		kept := tapes{}
		if _, err := kept.run(c, traffic, .9*full); err != nil {
			t.Fatal(err)
		}
		c.Policy.Decode = turns
		if tight {
			for _, u := range []*cost.Unit{&c.Prefill, &c.Decode} {
				u.GPU.Memory = 10.54e9
			}
		}
		got, err := kept.run(c, traffic, .9*full)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Run(c, traffic.New(.9*full))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, alike); d != "" {
			t.Errorf("tight %v: %s", tight, d)
		}
		if len(kept) != 1 || (want.Returned > 0) != tight {
			t.Errorf("tight %v: %d tapes, %d requests returned: the test does not test it", tight, len(kept), want.Returned)
		}
		c.played = kept[tapeKey{c.Policy.Prefill.Name, c.Policy.Experts}]
		if _, err := Run(c, traffic.New(.9*full)); errors.Is(err, errReturned) != tight {
			t.Errorf("tight %v: on the tape: %v", tight, err)
		}
	}
}
