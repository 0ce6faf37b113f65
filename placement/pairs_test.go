package placement

import (
	"errors"
	"slices"
	"testing"
)

func TestPairs(t *testing.T) {
	r, err := Pairs([][][]int64{{{7, 2, 0}, {2, 7, 5}, {0, 5, 7}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(1, 3); err != nil {
		t.Error(err)
	}
	if !slices.Equal(r.IDs[0], []uint16{0, 1, 1, 2}) || !slices.Equal(r.Weights[0], []int32{2, 5}) {
		t.Errorf("%v %v", r.IDs, r.Weights)
	}
	if l := r.Loads(3); !slices.Equal(l[0], []float64{2, 7, 5}) {
		t.Errorf("loads %v", l)
	}
	many, err := Pairs([][][]int64{{{0, 1 << 60}, {1 << 60, 0}}})
	if err != nil || many.Weights[0][0] != 1<<24 {
		t.Errorf("%v, %v", many, err)
	}
	for _, bad := range [][][][]int64{
		{{{0, 1}, {1}}}, {{{0}, {1, 0}}}, {{{0, 1}, {2, 0}}}, {{{0, -1}, {-1, 0}}}, {{{0}}, {{0, 0}, {0, 0}}},
	} {
		var e *Error
		if _, err := Pairs(bad); !errors.As(err, &e) || e.Field != "pairs" {
			t.Errorf("%v: %v", bad, err)
		}
	}
	for _, w := range [][][]int32{{}, {{1}}, {{1, -1}}} {
		r.Weights = w
		var e *Error
		if err := r.Validate(1, 3); !errors.As(err, &e) || e.Field != "routes" {
			t.Errorf("weights %v: %v", w, err)
		}
	}
}
