package deepseek

import (
	"math"
	"math/bits"
)

// tournament keeps the least of many keys, at 1, while single ones change: a tree in
// which node i is the lesser of its children 2i and 2i+1, and the keys are the leaves.
// A change costs one comparison a level, none of them a branch.
type tournament []uint64

// start makes a tree of n keys, to be set before build, in t's memory.
func (t tournament) start(n int) (tree tournament, keys []uint64) {
	half := 1 << bits.Len(uint(n-1))
	for i := half + n; i < 2*half; i++ {
		t[i] = math.MaxUint64
	}
	return t[:2*half], t[half : half+n]
}

// build makes the tree over its leaves. Cost: O(n).
func (t tournament) build() {
	for i := len(t)/2 - 1; i > 0; i-- {
		t[i] = min(t[2*i], t[2*i+1])
	}
}

// set changes key i. Cost: O(log n).
func (t tournament) set(i int, key uint64) {
	i += len(t) / 2
	t[i] = key
	for i > 1 {
		key = min(key, t[i^1])
		i >>= 1
		t[i] = key
	}
}
