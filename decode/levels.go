package decode

import "slices"

// levels holds ranks ordered by their KV use, one ordered set for each width (the
// tokens that a rank's requests grow by in a step). A rank's KV use is its base
// plus its width times the number of steps made, so that within a set the order
// of the bases is the order of KV use at any time: a step changes nothing here.
//
// A set is a treap whose nodes are the ranks themselves and whose priorities are
// a hash of the rank: its shape depends on what it holds alone. Every operation
// is O(log ranks) expected and allocates only where a width comes up for the
// first time.
type levels struct {
	key         []int64 // base of each rank, owned by the balancer; fixed while a rank is in a set
	left, right []int32
	priority    []uint32
	widths      []int64 // of the sets that are not empty, ascending
	roots       []int32 // of each of them
}

func newLevels(key []int64) *levels {
	l := &levels{key: key, left: make([]int32, len(key)), right: make([]int32, len(key)), priority: make([]uint32, len(key))}
	for r := range l.priority {
		x := uint64(r+1) * 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		l.priority[r] = uint32(x >> 32)
	}
	return l
}

// before orders a set: by KV use, and among equals the lowest rank last, so that
// a search for the most KV use finds it.
func (l *levels) before(a, b int32) bool {
	return l.key[a] < l.key[b] || l.key[a] == l.key[b] && a > b
}

func (l *levels) insert(width int64, r int32) {
	i, ok := slices.BinarySearch(l.widths, width)
	if !ok {
		l.widths, l.roots = slices.Insert(l.widths, i, width), slices.Insert(l.roots, i, -1)
	}
	at := &l.roots[i]
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
func (l *levels) above(a, b int32) bool {
	return l.priority[a] > l.priority[b] || l.priority[a] == l.priority[b] && a < b
}

// split parts the treap at t into what stands before r and what stands after.
func (l *levels) split(t, r int32) (before, after int32) {
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

func (l *levels) remove(width int64, r int32) {
	i, _ := slices.BinarySearch(l.widths, width)
	at := &l.roots[i]
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
	if l.roots[i] < 0 {
		l.widths, l.roots = slices.Delete(l.widths, i, i+1), slices.Delete(l.roots, i, i+1)
	}
}

// The sets are looked at by their roots:
//
//	for i, width := range l.widths { … l.most(l.roots[i], x) … }

// from returns the first rank from turn on, round about, of those of base x, of
// which there is one.
func (l *levels) from(root int32, x int64, turn int32) int32 {
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
		return l.most(root, x)
	}
	return first
}

// most returns the rank of the largest base ≤ x, the lowest of those that tie;
// -1 = none.
func (l *levels) most(t int32, x int64) int32 {
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

// least returns the least base of a set that is not empty.
func (l *levels) least(t int32) int64 {
	for l.left[t] >= 0 {
		t = l.left[t]
	}
	return l.key[t]
}

// largest returns the largest base of a set that is not empty.
func (l *levels) largest(t int32) int64 {
	for l.right[t] >= 0 {
		t = l.right[t]
	}
	return l.key[t]
}
