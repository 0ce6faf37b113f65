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
	out := share(nil, make([]int32, 0, groups), make([]int, nodes))
	if len(out) > mostHouses {
		return nil
	}
	chosen, weight := map[uint64]int64{}, int64(0) // of each set of groups
	for i := range int32(t.Len()) {
		set := uint64(0)
		for _, e := range t.of(i) {
			set |= 1 << (int(e) * groups / experts)
		}
		chosen[set] += int64(t.weight(i))
		weight += int64(t.weight(i))
	}
	for i := range out {
		sum := int64(0) // whole numbers: in whatever order
		for set, w := range chosen {
			on := uint64(0)
			for ; set != 0; set &= set - 1 {
				on |= 1 << out[i].Home[bits.TrailingZeros64(set)]
			}
			sum += int64(bits.OnesCount64(on)) * w
		}
		out[i].Nodes = float64(sum) / float64(weight)
	}
	slices.SortStableFunc(out, func(a, b House) int { return cmp.Compare(a.Nodes, b.Nodes) })
	return out
}

// share appends the ways to give nodes, of which so many groups are on each, to the
// groups from len(home) on, one more than mostHouses at most; of empty nodes the first
// alone is given.
func share(out []House, home []int32, used []int) []House {
	if len(home) == cap(home) {
		return append(out, House{Home: slices.Clone(home)})
	}
	for n, groups := range used {
		if groups < cap(home)/len(used) && len(out) <= mostHouses {
			used[n]++
			out = share(out, append(home, int32(n)), used)
			used[n]--
		}
		if groups == 0 {
			break
		}
	}
	return out
}
