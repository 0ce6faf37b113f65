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
// the intersection, over its experts, of the sets of nodes that meet the nodes of the
// expert; on more it is a search.
type Visits struct {
	nodes int
	meet  []uint64             // of few nodes: the sets of nodes that meet a set of nodes
	size  [fewNodes + 1]uint64 // the sets of each size
}

// NewVisits counts on so many nodes, MaxNodes at most.
func NewVisits(nodes int) *Visits {
	v := &Visits{nodes: nodes}
	if nodes > fewNodes {
		return v
	}
	v.meet = make([]uint64, 1<<nodes)
	for set := range v.meet {
		v.size[bits.OnesCount(uint(set))] |= 1 << set
		for with := range v.meet {
			if set&with != 0 || set == 0 { // what is nowhere is not looked for
				v.meet[set] |= 1 << with
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
	if v.meet != nil {
		sets := ^uint64(0)
		for _, e := range token {
			sets &= v.meet[on[e]]
		}
		for _, s := range v.size {
			if sets&s != 0 {
				return uint64(bits.TrailingZeros64(sets & s))
			}
		}
		return 0
	}
	var memory [2 * MaxTopK]uint64
	forced, left := uint64(0), memory[:0]
	for _, e := range token {
		if m := on[e]; m&(m-1) == 0 {
			forced |= m
		}
	}
	for _, e := range token {
		if m := on[e]; m&forced == 0 && m != 0 {
			left = append(left, m)
		}
	}
	if len(left) == 0 {
		return forced
	}
	return forced | cover(left, len(left)+1)
}

// cover returns the fewest nodes that meet all of some sets; all there are where that
// takes most or more. It branches on the nodes of the smallest set, and has room for what
// is left after it.
func cover(sets []uint64, most int) uint64 {
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
		left := sets[len(sets):]
		for _, s := range sets {
			if s&n == 0 {
				left = append(left, s)
			}
		}
		if x := n | cover(left, most-1); bits.OnesCount64(x) < most {
			best, most = x, bits.OnesCount64(x)
		}
	}
	return best
}

// Mean is the mean of Of over some tokens; NaN of none.
func (v *Visits) Mean(t *Tokens, on []uint64) float64 {
	sum, weight := 0.0, 0.0
	for i := range int32(t.Len()) {
		sum += t.weight(i) * float64(v.Of(t.of(i), on))
		weight += t.weight(i)
	}
	return sum / weight
}

// Sent returns, [nodes][nodes], the mean copies that a token on one node sends to
// another: to the fewest that hold those of its experts which its own node lacks or,
// perExpert, one for each of these, evenly to the nodes that hold it. NaN without
// tokens.
func (v *Visits) Sent(t *Tokens, on []uint64, perExpert bool) [][]float64 {
	sums := make([][]float64, v.nodes)
	_, weight := t.chosen(len(on))
	var memory [MaxTopK]uint16
	for from := range sums {
		row := make([]float64, v.nodes)
		send := func(to uint64, w float64) {
			for ; to != 0; to &= to - 1 {
				row[bits.TrailingZeros64(to)] += w
			}
		}
		for i := range int32(t.Len()) {
			w, left := t.weight(i), memory[:0]
			for _, e := range t.of(i) {
				if on[e]>>from&1 == 0 {
					left = append(left, e)
				}
			}
			if !perExpert {
				send(v.Choose(left, on), w)
				continue
			}
			for _, e := range left {
				send(on[e], w/float64(bits.OnesCount64(on[e])))
			}
		}
		for to := range row {
			row[to] /= weight
		}
		sums[from] = row
	}
	return sums
}
