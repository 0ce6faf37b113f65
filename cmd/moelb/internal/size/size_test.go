package size

import (
	"slices"
	"testing"
)

// TestSweep: sizes rise, start without redundancy, and fit what is in service.
func TestSweep(t *testing.T) {
	for _, c := range []struct {
		experts, gpus, alive, most int
		want                       []int
	}{
		{8, 4, 4, 4, []int{8, 9, 10, 11, 12}},
		{8, 4, 4, 6, []int{8, 9, 10, 11, 12, 13, 14}},
		{256, 144, 144, 0, []int{256, 288, 324, 360, 396, 432, 468, 504, 540, 576}},
		{8, 4, 3, 4, []int{12, 16}},
		{8, 16, 16, 0, []int{8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48}},
		{1, 1, 1, 0, []int{1, 2, 3}},
	} {
		if got := sweep(c.experts, c.gpus, c.alive, c.most); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for experts := 1; experts < 300; experts += 7 {
		for gpus := 1; gpus < 40; gpus += 3 {
			for _, most := range []int{0, 1, 50, 5000} {
				got := sweep(experts, gpus, gpus, most)
				if got[0] != experts || !slices.IsSorted(got) || len(got) > 50 || most > 0 && got[len(got)-1] != experts+most {
					t.Fatalf("%d experts, %d GPUs, %d: %v", experts, gpus, most, got)
				}
			}
		}
	}
}

// TestKnee: the rule by hand.
func TestKnee(t *testing.T) {
	for _, c := range []struct {
		mean []float64 // one slot a GPU apart
		want int
	}{
		{[]float64{2, 1.5, 1.2, 1.195, 1.19}, 2},
		{[]float64{2, 2, 1.5, 1.5}, 2}, // a step that gains nothing before one that does
		{[]float64{1, 1, 1}, 0},
		{[]float64{3, 2, 1}, 2},
		{[]float64{1.01, 1.05, 1}, 0}, // a heuristic's bump
	} {
		s := sizes{worth: 0.01}
		for i, m := range c.mean {
			s.rows = append(s.rows, sized{mean: m, slotsEach: float64(i)})
		}
		if got := s.knee(); got != c.want {
			t.Errorf("%v: %d, want %d", c.mean, got, c.want)
		}
	}
}
