package workload

import (
	"math"
	"testing"
)

// TestScaleInputs: what runs at a random moment holds as much as asked for.
func TestScaleInputs(t *testing.T) {
	for _, kv := range []float64{3000, 4989} {
		held, outputs := 0.0, 0.0
		for _, q := range ScaleInputs(append(Chat(5000, 1), Request{Input: 7}), kv) {
			if q.Input < 1 || q.Output < 1 {
				t.Fatalf("%+v", q)
			}
			held += float64(q.Output) * (float64(q.Input) + float64(q.Output)/2)
			outputs += float64(q.Output)
		}
		if got := held / outputs; math.Abs(got/kv-1) > 0.001 {
			t.Errorf("%.1f tokens a request, want %.0f", got, kv)
		}
	}
}

func TestServeGen(t *testing.T) {
	dir, err := DataDir()
	if err != nil {
		t.Skip(err)
	}
	requests, err := ServeGen(dir, 20000, 1)
	if err != nil {
		t.Fatal(err)
	}
	in, out := 0, 0
	for _, q := range requests {
		if q.Input < 1 || q.Output < 1 {
			t.Fatalf("%+v", q)
		}
		in, out = in+q.Input, out+q.Output
	}
	if in, out = in/len(requests), out/len(requests); in < 1100 || in > 1450 || out < 1400 || out > 1650 {
		t.Errorf("means %d and %d", in, out)
	}
	if _, err := ServeGen(t.TempDir(), 1, 1); err == nil {
		t.Error("no error without the files")
	}
}
