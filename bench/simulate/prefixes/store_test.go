package prefixes

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestStore compares the store with the same rule written as plainly as can be, on
// blocks in order, as prompts have them, and in none.
func TestStore(t *testing.T) {
	for _, capacity := range []int{1, 7, 100} {
		s := New(capacity)
		var plain []int64 // most recent first
		use := func(b int64) {
			plain = slices.DeleteFunc(plain, func(x int64) bool { return x == b })
			plain = slices.Insert(plain, 0, b)
			plain = plain[:min(len(plain), capacity)]
		}
		r := rand.New(rand.NewPCG(1, 1))
		names := 2*capacity + 5
		for range 5000 {
			blocks := make([]int64, 1+r.IntN(capacity/4+4))
			first := r.IntN(names)
			for i := range blocks {
				blocks[i] = int64((first + i) % names)
				if r.IntN(4) == 0 {
					blocks[i] = int64(r.IntN(names))
				}
			}
			want := 0
			for want < len(blocks) && slices.Contains(plain, blocks[want]) {
				use(blocks[want])
				want++
			}
			if got := s.Match(blocks, 0); got != want {
				t.Fatalf("capacity %d, %v: %d match, want %d", capacity, blocks, got, want)
			}
			s.Add(blocks, 0)
			for _, b := range blocks {
				use(b)
			}
		}
		if s.Capacity() != capacity || len(s.nodes) != capacity || len(s.table) > 4*max(capacity, 8) {
			t.Errorf("capacity %d: %d nodes and %d cells", capacity, len(s.nodes), len(s.table))
		}
	}
}

// TestAlike: blocks whose names have the same hash in the table are two.
func TestAlike(t *testing.T) {
	seen := map[uint32]int64{}
	found := 0
	for b := int64(0); found < 3; b++ {
		h := uint32(hash(b) >> 32)
		a, ok := seen[h]
		seen[h] = b
		if !ok {
			continue
		}
		found++
		s := New(4)
		s.Add([]int64{a}, 0)
		if s.Match([]int64{b}, 0) != 0 {
			t.Errorf("%d is found where %d is", b, a)
		}
		s.Add([]int64{b}, 0)
		if s.Match([]int64{a, b}, 0) != 2 || s.Match([]int64{b, a}, 0) != 2 {
			t.Errorf("%d and %d are not both found", a, b)
		}
	}
	s := New(4)
	s.Add([]int64{1, 2, 3}, 0)
	for b := int64(-2); b < 5; b++ {
		if s.Match([]int64{b}, 1) != 0 {
			t.Errorf("%d is found in another copy", b)
		}
	}
}
