package deepseek

import (
	"math"
	"math/bits"
)

// tournament keeps the least of many keys while single ones change: a tree in
// which every node is the lesser of its two children. A change costs one
// comparison a level, none of them a branch.
type tournament struct {
	node []uint64 // node 1 is the top, i has the children 2i and 2i+1
	half int      // the first leaf
}

// newTournament has room for n keys.
func newTournament(n int) tournament {
	return tournament{node: make([]uint64, 2<<bits.Len(uint(n-1)))}
}

// start returns the leaves of a tree of n keys, to be set before build.
func (t *tournament) start(n int) []uint64 {
	t.half = 1 << bits.Len(uint(n-1))
	for i := t.half + n; i < 2*t.half; i++ {
		t.node[i] = math.MaxUint64
	}
	return t.node[t.half : t.half+n]
}

// build makes the tree over its leaves. Cost: O(n).
func (t *tournament) build() {
	node := t.node[:2*t.half]
	for i := t.half - 1; i > 0; i-- {
		node[i] = min(node[2*i], node[2*i+1])
	}
}

// top is the least key.
func (t *tournament) top() uint64 { return t.node[1] }

// at is key i.
func (t *tournament) at(i int) uint64 { return t.node[t.half+i] }

// set changes key i. Cost: O(log n).
func (t *tournament) set(i int, key uint64) {
	node := t.node
	i += t.half
	node[i] = key
	for i > 1 {
		key = min(key, node[i^1])
		i >>= 1
		node[i] = key
	}
}
