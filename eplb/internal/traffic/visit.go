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

// Of returns how many nodes a token of these experts visits.
func (v *Visits) Of(token []uint16, on []uint64) int {
	return bits.OnesCount64(v.Choose(token, on))
}

// Choose returns the nodes that a token of these experts visits, on few nodes the
// lowest of equals; on holds the nodes of each expert, as a set. An expert on no node is
// not visited.
func (v *Visits) Choose(token []uint16, on []uint64) uint64 {
	if v.hits != nil {
		sets := ^uint64(0)
		for _, e := range token {
			sets &= v.hits[on[e]]
		}
		for _, s := range v.size {
			if sets&s != 0 {
				return uint64(bits.TrailingZeros64(sets & s))
			}
		}
		return 0
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
	if len(left) == 0 {
		return forced
	}
	var memory [MaxTopK]uint64
	return forced | cover(left, len(left)+1, memory[:0])
}

// cover returns the fewest nodes that meet all of some sets; all there are where that
// takes most or more. It branches on the nodes of the smallest set.
func cover(sets []uint64, most int, memory []uint64) uint64 {
	smallest, common := sets[0], ^uint64(0)
	for _, s := range sets {
		common &= s
		if bits.OnesCount64(s) < bits.OnesCount64(smallest) {
			smallest = s
		}
	}
	if common != 0 {
		return common & -common
	}
	best := ^uint64(0)
	for ; smallest != 0 && most > 2; smallest &= smallest - 1 {
		n := smallest & -smallest
		left := memory[len(memory):]
		for _, s := range sets {
			if s&n == 0 {
				left = append(left, s)
			}
		}
		if x := n | cover(left, most-1, left); bits.OnesCount64(x) < most {
			best, most = x, bits.OnesCount64(x)
		}
	}
	return best
}
