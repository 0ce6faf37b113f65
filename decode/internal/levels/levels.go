// Package levels finds the rank of a unit with the most KV use below a level, or the
// least of all, in O(log ranks) while every step lets all of them grow.
package levels

import (
	"iter"
	"slices"
)

// Levels holds ranks ordered by their KV use, one ordered set for each width (the
// tokens that a rank's requests grow by in a step). A rank's KV use is its base
// plus its width times the number of steps made, so that within a set the order
// of the bases is the order of KV use at any time: a step changes nothing here.
//
// A set is a treap whose nodes are the ranks themselves and whose priorities are
// a hash of the rank: its shape depends on what it holds alone. Every operation
// is O(log ranks) expected and allocates only where a width comes up for the
// first time.
type Levels struct {
	// Widths of the sets that are not empty, ascending, and the root of each, by which
	// it is looked at:
	//
	//	for i, width := range l.Widths { … l.Most(l.Roots[i], x) … }
	Widths []int64
	Roots  []int32

	key         []int64 // base of each rank, the caller's; fixed while a rank is in a set
	left, right []int32
	priority    []uint32
}

// New returns empty sets for ranks of these bases, which it keeps.
func New(key []int64) *Levels {
	l := &Levels{key: key, left: make([]int32, len(key)), right: make([]int32, len(key)), priority: make([]uint32, len(key))}
	for r := range l.priority {
		x := uint64(r+1) * 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		l.priority[r] = uint32(x >> 32)
	}
	return l
}

// before orders a set: by KV use, and among equals the lowest rank last, so that
// a search for the most KV use finds it.
func (l *Levels) before(a, b int32) bool {
	return l.key[a] < l.key[b] || l.key[a] == l.key[b] && a > b
}

// Insert puts a rank into the set of its width; it must be in none.
func (l *Levels) Insert(width int64, r int32) {
	i, ok := slices.BinarySearch(l.Widths, width)
	if !ok {
		l.Widths, l.Roots = slices.Insert(l.Widths, i, width), slices.Insert(l.Roots, i, -1)
	}
	at := &l.Roots[i]
	for *at >= 0 && l.above(*at, r) {
		if l.before(r, *at) {
			at = &l.left[*at]
		} else {
			at = &l.right[*at]
		}
	}
	l.left[r], l.right[r] = l.split(*at, r)
	*at = r
}

// above reports whether a stands over b in a treap that holds both.
func (l *Levels) above(a, b int32) bool {
	return l.priority[a] > l.priority[b] || l.priority[a] == l.priority[b] && a < b
}

// split parts the treap at t into what stands before r and what stands after.
func (l *Levels) split(t, r int32) (before, after int32) {
	before, after = -1, -1
	b, a := &before, &after
	for t >= 0 {
		if l.before(t, r) {
			*b, b, t = t, &l.right[t], l.right[t]
		} else {
			*a, a, t = t, &l.left[t], l.left[t]
		}
	}
	*b, *a = -1, -1
	return before, after
}

// Remove takes a rank out of the set of its width, which it must be in.
func (l *Levels) Remove(width int64, r int32) {
	i, _ := slices.BinarySearch(l.Widths, width)
	at := &l.Roots[i]
	for *at != r {
		if l.before(r, *at) {
			at = &l.left[*at]
		} else {
			at = &l.right[*at]
		}
	}
	a, b := l.left[r], l.right[r]
	for a >= 0 && b >= 0 {
		if l.above(a, b) {
			*at, at, a = a, &l.right[a], l.right[a]
		} else {
			*at, at, b = b, &l.left[b], l.left[b]
		}
	}
	*at = max(a, b)
	if l.Roots[i] < 0 {
		l.Widths, l.Roots = slices.Delete(l.Widths, i, i+1), slices.Delete(l.Roots, i, i+1)
	}
}

// From returns the first rank from turn on, round about, of those of base x, of
// which there is one.
func (l *Levels) From(root int32, x int64, turn int32) int32 {
	first := int32(-1)
	for t := root; t >= 0; {
		switch {
		case l.key[t] > x || l.key[t] == x && t < turn:
			t = l.left[t]
		default:
			if l.key[t] == x {
				first = t
			}
			t = l.right[t]
		}
	}
	if first < 0 {
		return l.Most(root, x)
	}
	return first
}

// Most returns the rank of the largest base ≤ x, the lowest of those that tie;
// -1 = none.
func (l *Levels) Most(t int32, x int64) int32 {
	best := int32(-1)
	for t >= 0 {
		if l.key[t] <= x {
			best, t = t, l.right[t]
		} else {
			t = l.left[t]
		}
	}
	return best
}

// Least returns the least base of a set that is not empty.
func (l *Levels) Least(t int32) int64 {
	for l.left[t] >= 0 {
		t = l.left[t]
	}
	return l.key[t]
}

// Largest returns the largest base of a set that is not empty.
func (l *Levels) Largest(t int32) int64 {
	for l.right[t] >= 0 {
		t = l.right[t]
	}
	return l.key[t]
}

// Ascending yields the ranks of a set by their KV use, of equals the lowest rank last.
func (l *Levels) Ascending(root int32) iter.Seq[int32] {
	return func(yield func(int32) bool) { l.walk(root, yield) }
}

func (l *Levels) walk(t int32, yield func(int32) bool) bool {
	return t < 0 || l.walk(l.left[t], yield) && yield(t) && l.walk(l.right[t], yield)
}
