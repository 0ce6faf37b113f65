package decode

import (
	"errors"
	"testing"
)

// A Balancer that New did not make is a unit without ranks: all is refused, and nothing
// panics.
func TestZeroBalancer(t *testing.T) {
	var b Balancer
	_, added := b.Add(Request{ID: 1, KV: 10})
	_, batched := b.Batch(nil, []Request{{ID: 1, KV: 10}})
	_, dead := b.Dead(nil, 0)
	_, where := b.Where(1)
	_, kv := b.KV(1)
	_, synced := b.Sync(Changes{}, 0, nil)
	_, quoted := b.Quote(Request{ID: 1, KV: 10})
	for what, err := range map[string]error{
		"Add": added, "Batch": batched, "Dead": dead, "Where": where, "KV": kv, "Sync": synced, "Quote": quoted,
		"Enter": b.Enter(Request{ID: 1, KV: 10}, 0), "Done": b.Done(1), "Cancel": b.Cancel(1), "Evict": b.Evict(1), "Start": b.Start(1), "Grow": b.Grow(1, 1),
		"Generated": b.Generated(1, 1), "GrowAll": b.GrowAll([]Growth{{1, 1}}), "Drain": b.Drain(0), "Restore": b.Restore(0), "Resize": b.Resize(2), "Move": b.Move(1, 0),
		"Report": b.Report(Report{}),
	} {
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.Step()
	b.Stats()
	b.Rank(0)
	b.StepSeconds()
	if len(b.Known(nil)) > 0 || len(b.Overfull(nil)) > 0 || b.Ranks() != 0 {
		t.Error("there is something")
	}
	b.Standouts(nil)
	b.Rebalance(nil, 1)
	b.AppendSnapshot(nil)
}
