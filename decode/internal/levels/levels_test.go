package levels

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLikeSortedLists: after every change, what the sets answer is what sorted lists do.
func TestLikeSortedLists(t *testing.T) {
	const ranks, widths = 40, 4
	r := rand.New(rand.NewPCG(7, 8))
	key, width := make([]int64, ranks), make([]int64, ranks)
	l := New(key)
	of := func(w int64) (set []int32) {
		for g := range int32(ranks) {
			if width[g] == w {
				set = append(set, g)
			}
		}
		slices.SortFunc(set, func(a, b int32) int { return cmp.Or(cmp.Compare(key[a], key[b]), cmp.Compare(b, a)) })
		return set
	}
	for n := range 20_000 {
		g := int32(r.IntN(ranks))
		if width[g] > 0 {
			l.Remove(width[g], g)
		}
		if width[g] = int64(r.IntN(widths)); width[g] > 0 { // 0 = in no set
			key[g] = int64(r.IntN(12))
			l.Insert(width[g], g)
		}
		for w := int64(1); w < widths; w++ {
			set := of(w)
			i, ok := slices.BinarySearch(l.Widths, w)
			if ok != (len(set) > 0) {
				t.Fatalf("change %d: set of width %d is there: %v, with %d ranks", n, w, ok, len(set))
			}
			if !ok {
				continue
			}
			root := l.Roots[i]
			if got := slices.Collect(l.Ascending(root)); !slices.Equal(got, set) {
				t.Fatalf("change %d: %v, sorted %v", n, got, set)
			}
			if a, b := l.Least(root), l.Largest(root); a != key[set[0]] || b != key[set[len(set)-1]] {
				t.Fatalf("change %d: from %d to %d, sorted %v", n, a, b, set)
			}
			x := int64(r.IntN(13)) - 1
			most := int32(-1)
			for _, g := range set {
				if key[g] <= x {
					most = g
				}
			}
			if got := l.Most(root, x); got != most {
				t.Fatalf("change %d: rank %d has the most up to %d, by the list %d", n, got, x, most)
			}
			if most < 0 {
				continue
			}
			turn, next := int32(r.IntN(ranks)), most
			for _, g := range set { // equals: the highest rank first
				if key[g] == key[most] && g >= turn {
					next = g
				}
			}
			if got := l.From(root, key[most], turn); got != next {
				t.Fatalf("change %d: rank %d is the first of %d from %d on, by the list %d", n, got, key[most], turn, next)
			}
		}
	}
}
