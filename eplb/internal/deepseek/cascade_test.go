package deepseek_test

import (
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/eplb/internal/deepseek"
)

func TestCascadeSumAgainstDumb(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	for n := range 300 {
		if n >= 200 {
			n = r.IntN(20000)
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.ExpFloat64())
		}
		if got, want := deepseek.CascadeSum(x), dumbSum(x); got != want {
			t.Fatalf("%d numbers: %v, want %v", n, got, want)
		}
	}
}

// Sums of integers are exact up to 2^24 in any order, and the order shows above.
func TestCascadeSumOrder(t *testing.T) {
	x := make([]float32, 32)
	x[0] = 1 << 24
	for _, i := range []int{8, 16} { // the lane of x[0], in the next two vectors
		x[i] = 1
	}
	if got := deepseek.CascadeSum(x); got != 1<<24 {
		t.Errorf("vectors of a lane one by one: got %v", got)
	}
	x[16], x[1] = 0, 1
	x[8], x[9] = 0, 1 // lane 1: 1+1 first
	if got := deepseek.CascadeSum(x); got != 1<<24+2 {
		t.Errorf("lanes before their sum: got %v", got)
	}
}
