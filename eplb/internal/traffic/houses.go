package traffic

import (
	"cmp"
	"math/bits"
	"slices"
)

// mostHouses is up to how many ways to share groups by nodes are all looked at: 8
// groups on 4 nodes have 105.
const mostHouses = 5000

// House is a node for each group, as many groups on each node, and the mean nodes
// that tokens then visit where no replica is off its group's node. It is exact:
// group-limited routing makes a token choose few groups, and what it visits depends
// on which of them are together alone.
type House struct {
	Home  []int32 // [groups]
	Nodes float64
}

// Houses returns the ways to share groups of equally many consecutive experts by
// nodes, those of fewest nodes a token first, nodes told apart by nothing but what
// they hold; nil where there are too many. t must have tokens. Cost: ways times the
// sets of groups that tokens choose.
func Houses(t *Tokens, experts, groups, nodes int) []House {
	if groups > 64 || groups%nodes != 0 {
		return nil
	}
	h := houses{each: groups / nodes, home: make([]int32, groups), used: make([]int, nodes)}
	if h.share(0); len(h.out) > mostHouses {
		return nil
	}
	h.count(t, experts/groups)
	for i := range h.out {
		h.out[i].Nodes = h.nodes(h.out[i].Home)
	}
	slices.SortStableFunc(h.out, func(a, b House) int { return cmp.Compare(a.Nodes, b.Nodes) })
	return h.out
}

// count counts how many tokens choose each set of groups.
func (h *houses) count(t *Tokens, per int) {
	at := map[uint64]int{}
	for i := range t.Len() {
		set := uint64(0)
		for _, e := range t.of(int32(i)) {
			set |= 1 << (int(e) / per)
		}
		k, ok := at[set]
		if !ok {
			k = len(h.sets)
			at[set] = k
			h.sets, h.weights = append(h.sets, set), append(h.weights, 0)
		}
		h.weights[k] += t.weight(int32(i))
		h.weight += t.weight(int32(i))
	}
}

// houses is the enumeration at hand.
type houses struct {
	each    int
	home    []int32
	used    []int
	sets    []uint64
	weights []int64
	weight  int64
	out     []House
}

// share gives nodes to the groups from g on, in so many ways and one more at most; of
// empty nodes the first alone.
func (h *houses) share(g int) {
	if g == len(h.home) {
		h.out = append(h.out, House{Home: slices.Clone(h.home)})
	}
	if g == len(h.home) || len(h.out) > mostHouses {
		return
	}
	for n, used := range h.used {
		if used < h.each {
			h.home[g] = int32(n)
			h.used[n]++
			h.share(g + 1)
			h.used[n]--
		}
		if used == 0 {
			return
		}
	}
}

// nodes is the mean nodes a token where groups are at home so.
func (h *houses) nodes(home []int32) float64 {
	sum := int64(0)
	for i, set := range h.sets {
		on := uint64(0)
		for ; set != 0; set &= set - 1 {
			on |= 1 << home[bits.TrailingZeros64(set)]
		}
		sum += int64(bits.OnesCount64(on)) * h.weights[i]
	}
	return float64(sum) / float64(h.weight)
}
