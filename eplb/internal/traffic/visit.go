package traffic

import "math/bits"

// MaxNodes is the most nodes whose visits are counted: a set of nodes is one word.
const MaxNodes = 64

// MaxTopK is the most experts of a token.
const MaxTopK = 32

// fewNodes is up to how many nodes all sets of nodes fit one word.
const fewNodes = 6

// Visits counts the nodes that tokens visit: the fewest that together hold a
// replica of each of a token's experts. On up to six nodes a token's answer is
// the intersection, over its experts, of the sets of nodes that hold the expert;
// on more it is a search, for what is left once experts that live on one node
// have had theirs.
type Visits struct {
	nodes int
	hits  []uint64             // of few nodes: the sets of nodes that meet a set of nodes
	size  [fewNodes + 1]uint64 // the sets of each size
	left  [MaxTopK]uint64
}

// NewVisits counts on so many nodes, MaxNodes at most.
func NewVisits(nodes int) *Visits {
	v := &Visits{nodes: nodes}
	if nodes > fewNodes {
		return v
	}
	v.hits = make([]uint64, 1<<nodes)
	for set := range v.hits {
		v.size[bits.OnesCount(uint(set))] |= 1 << set
		for with := range v.hits {
			if set&with != 0 || set == 0 { // what is nowhere is not looked for
				v.hits[set] |= 1 << with
			}
		}
	}
	return v
}

// Of returns the nodes that a token of these experts visits; on holds the nodes
// of each expert, as a set. An expert on no node is not visited.
func (v *Visits) Of(token []uint16, on []uint64) int {
	if v.hits != nil {
		return v.smallest(v.meet(token, on))
	}
	forced := uint64(0)
	for _, e := range token {
		if m := on[e]; m&(m-1) == 0 {
			forced |= m
		}
	}
	left := v.left[:0]
	for _, e := range token {
		if m := on[e]; m&forced == 0 && m != 0 {
			left = append(left, m)
		}
	}
	return bits.OnesCount64(forced) + cover(left)
}

// meet is the sets of few nodes that hold all of a token's experts.
func (v *Visits) meet(token []uint16, on []uint64) uint64 {
	sets := ^uint64(0)
	for _, e := range token {
		sets &= v.hits[on[e]]
	}
	return sets
}

// smallest is the size of the smallest of some sets of few nodes.
func (v *Visits) smallest(sets uint64) int {
	for n, s := range v.size {
		if sets&s != 0 {
			return n
		}
	}
	return 0
}

// cover is the fewest nodes that meet all sets.
func cover(sets []uint64) int {
	switch len(sets) {
	case 0, 1:
		return len(sets)
	case 2:
		if sets[0]&sets[1] != 0 {
			return 1
		}
		return 2
	}
	var memory [MaxTopK]uint64
	return coverBelow(sets, len(sets)+1, memory[:0])
}

// coverBelow is the fewest nodes that meet all sets, of which there are some, or most
// if that is not less.
// It branches on the nodes of the smallest set.
func coverBelow(sets []uint64, most int, memory []uint64) int {
	if most <= 1 {
		return most
	}
	best := sets[0]
	common := ^uint64(0)
	for _, s := range sets {
		common &= s
		if bits.OnesCount64(s) < bits.OnesCount64(best) {
			best = s
		}
	}
	if common != 0 {
		return 1
	}
	if most <= 2 {
		return most
	}
	for ; best != 0; best &= best - 1 {
		n := best & -best
		left := memory[len(memory):]
		for _, s := range sets {
			if s&n == 0 {
				left = append(left, s)
			}
		}
		most = min(most, 1+coverBelow(left, most-1, left))
	}
	return most
}
