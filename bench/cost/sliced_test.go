package cost

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestHit: as many experts get rows as do when rows are drawn, and between whole rows
// it goes on evenly.
func TestHit(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for _, experts := range []int{1, 2, 7, 256} {
		for _, rows := range []int{1, 3, 40, 400} {
			const draws = 4000
			sum := 0
			for range draws {
				seen := make([]bool, experts)
				for range rows {
					if x := r.IntN(experts); !seen[x] {
						seen[x] = true
						sum++
					}
				}
			}
			drawn, got := float64(sum)/draws, hit(float64(rows), float64(experts))
			if math.Abs(got-drawn) > .02*drawn {
				t.Errorf("%d rows of %d experts: %v get some, %v when drawn", rows, experts, got, drawn)
			}
			next, mid := hit(float64(rows+1), float64(experts)), hit(float64(rows)+.5, float64(experts))
			if math.Abs(mid-(got+next)/2) > 1e-9*got || mid > float64(experts) {
				t.Errorf("%d and a half rows of %d experts: %v between %v and %v", rows, experts, mid, got, next)
			}
		}
	}
}

// TestSliced: slices of all weights keep as much memory and read as much as whole experts
// on the same GPUs, without a dispatch, and cost more where there are many tokens: each
// GPU has all of them.
func TestSliced(t *testing.T) {
	whole := unit("h200", DecodePhase, 1, Calibrated())
	whole.TP, whole.Slots, whole.Overlap = 8, 32, NoOverlap
	sliced := *whole
	sliced.Slots, sliced.Sliced = 0, true
	if a, b := whole.KVRoom(), sliced.KVRoom(); a != b {
		t.Errorf("room for %d tokens beside whole experts, %d beside slices", a, b)
	}
	for _, n := range []float64{.5, 4, 12} {
		a, err := whole.Estimate(even(Batch{Requests: n, KV: 2000}))
		if err != nil {
			t.Fatal(err)
		}
		b, err := sliced.Estimate(even(Batch{Requests: n, KV: 2000}))
		if err != nil {
			t.Fatal(err)
		}
		// Of whole experts as many are read as there are rows.
		rows := n * float64(sliced.Model.TopK)
		ratio := b.Decode.Experts[3] / a.Decode.Experts[3] / (hit(8*rows, 256) / 8 / min(rows, 32))
		if b.Decode.Dispatch != 0 || b.Decode.Combine < sliced.Factors.ReduceStart || b.StepSeconds >= a.StepSeconds || ratio < .9 || ratio > 1.1 {
			t.Errorf("%v requests a GPU: experts that are read take %.2f times as long in slices, dispatch %v, combine %v; steps of %v and %v", n, ratio, b.Decode.Dispatch, b.Decode.Combine, a.StepSeconds, b.StepSeconds)
		}
	}
	// A slice of the vocabulary and of a dense layer is an eighth, but for its start.
	a, b := whole.Kernels(), sliced.Kernels()
	if x, y := a.Head(1), b.Head(1); y > .3*x {
		t.Errorf("the head takes %v whole, %v in slices", x, y)
	}
	if x, y := a.dense(1), b.dense(1); y > .3*x {
		t.Errorf("a dense layer takes %v whole, %v in slices", x, y)
	}
	for _, change := range []func(*Unit){func(u *Unit) { u.TP = 4 }, func(u *Unit) { u.Slots = 32 }, func(u *Unit) { u.Phase = PrefillPhase }} {
		u := sliced
		change(&u)
		if err := u.Validate(); err == nil || !strings.Contains(err.Error(), "slice experts") {
			t.Errorf("%+v: %v", u, err)
		}
	}
}
