package workload

import (
	"math"
	"testing"
)

// TestRescale: the scaled requests have the KV and the prompts asked for, and their
// lengths go together as before.
func TestRescale(t *testing.T) {
	var sample []Request
	source := Steady(1, 3)
	for range 20000 {
		q, _ := source.Next()
		sample = append(sample, q)
	}
	r := Rescale(sample, 4989, 3.6)(Steady(1, 3))
	kv, in, out := 0.0, 0.0, 0.0
	for range sample {
		q, _ := r.Next()
		i, o := float64(q.Input), float64(q.Output)
		kv, in, out = kv+o*(i+o/2), in+i, out+o
	}
	if x := kv / out; math.Abs(x/4989-1) > .005 {
		t.Errorf("%v tokens of KV behind a generated one", x)
	}
	if x := in / out; math.Abs(x/3.6-1) > .005 {
		t.Errorf("%v prompt tokens for each generated one", x)
	}
}
