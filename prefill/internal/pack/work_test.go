package pack

import "testing"

// TestLongest holds the longest chunk against counting up to it.
func TestLongest(t *testing.T) {
	for p := range int64(20) {
		for room := range int64(250) {
			want := int64(0)
			for want < 15 && pairsOf(want+1, p) <= room {
				want++
			}
			if got := longest(p, room, 15); got != want {
				t.Fatalf("longest(%d, %d): %d, not %d", p, room, got, want)
			}
		}
	}
	for _, p := range []int64{0, 1, 1000, 1 << 27} {
		for _, n := range []int64{1, 77, 1 << 20, 1 << 27} {
			for d := int64(-1); d <= 1; d++ {
				want := n
				if d < 0 {
					want--
				}
				if got := longest(p, pairsOf(n, p)+d, 1<<28); got != want {
					t.Errorf("longest(%d, pairs of %d %+d): %d", p, n, d, got)
				}
			}
		}
	}
}
