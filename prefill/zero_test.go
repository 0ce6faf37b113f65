package prefill

import (
	"errors"
	"testing"
)

// A Balancer that New did not make is a unit without ranks: all is refused, and nothing
// panics.
func TestZeroBalancer(t *testing.T) {
	var b Balancer
	_, added := b.Add(Request{ID: 1, Tokens: 10})
	_, dead := b.Dead(nil, 0)
	_, where := b.Where(1)
	_, synced := b.Sync(Changes{}, 0, nil)
	_, quoted := b.Quote(Request{ID: 1, Tokens: 10})
	_, within := b.StepWithin(nil, []Budget{{}})
	for what, err := range map[string]error{
		"Add": added, "Dead": dead, "Where": where, "Sync": synced, "Quote": quoted, "StepWithin": within, "Enqueue": b.Enqueue(Request{ID: 1, Tokens: 10}),
		"SetCached": b.SetCached(1, 0, 1), "Enter": b.Enter(Request{ID: 1, Tokens: 10}, 0), "Done": b.Done(1), "Cancel": b.Cancel(1),
		"Drain": b.Drain(0), "Restore": b.Restore(0), "Resize": b.Resize(2), "Move": b.Move(1, 0), "Report": b.Report(Report{}),
	} {
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.Stats()
	b.Rank(0)
	b.Version(0)
	b.Queued()
	if len(b.Step(nil)) > 0 || len(b.Known(nil)) > 0 || len(b.Ended(nil)) > 0 || b.Ranks() != 0 {
		t.Error("there is something")
	}
	b.AppendSnapshot(nil)
}
