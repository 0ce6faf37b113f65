package homes

import "testing"

func TestBelow(t *testing.T) {
	for x, want := range []int{1: 0, 2: 1, 3: 2, 4: 2, 5: 4, 8: 4, 9: 8, 16: 8} {
		if x > 5 && want == 0 || x == 0 {
			continue
		}
		if got := below(x); got != want {
			t.Errorf("below %d: %d, want %d", x, got, want)
		}
	}
}
