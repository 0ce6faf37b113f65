package traffic

import (
	"math"
	"math/bits"
)

// Choose returns nodes that together hold a replica of each of a token's experts,
// the fewest on up to six nodes: on more, one after the other that holds most of what
// is left. Of equals it takes the lowest. on holds the nodes of each expert, as a set;
// an expert on no node is not looked for.
func (v *Visits) Choose(token []uint16, on []uint64) uint64 {
	if v.hits != nil {
		sets := v.meet(token, on)
		for _, s := range v.size {
			if sets&s != 0 {
				return uint64(bits.TrailingZeros64(sets & s))
			}
		}
		return 0
	}
	chosen := uint64(0)
	for {
		var has [MaxNodes]uint8
		best, most := 0, uint8(0)
		for _, e := range token {
			if on[e]&chosen != 0 {
				continue
			}
			for m := on[e]; m != 0; m &= m - 1 {
				n := bits.TrailingZeros64(m)
				if has[n]++; has[n] > most || has[n] == most && n < best {
					best, most = n, has[n]
				}
			}
		}
		if most == 0 {
			return chosen
		}
		chosen |= 1 << best
	}
}

// Sent returns, [nodes][nodes], the mean copies that a token on one node sends to
// another: to the fewest that hold those of its experts which its own node lacks or,
// perExpert, one for each of these, evenly to the nodes that hold it. NaN without
// tokens.
func (v *Visits) Sent(t *Tokens, on []uint64, perExpert bool) [][]float64 {
	sums, weight := make([][]float64, v.nodes), 0.0
	for from := range sums {
		sums[from] = make([]float64, v.nodes)
	}
	var memory [MaxTopK]uint16
	for i := range t.Len() {
		w := float64(t.weight(int32(i)))
		weight += w
		for from, row := range sums {
			left := memory[:0]
			for _, e := range t.of(int32(i)) {
				if on[e]>>from&1 == 0 {
					left = append(left, e)
				}
			}
			if !perExpert {
				for to := v.Choose(left, on); to != 0; to &= to - 1 {
					row[bits.TrailingZeros64(to)] += w
				}
				continue
			}
			for _, e := range left {
				each := w / float64(bits.OnesCount64(on[e]))
				for to := on[e]; to != 0; to &= to - 1 {
					row[bits.TrailingZeros64(to)] += each
				}
			}
		}
	}
	for _, row := range sums {
		for to := range row {
			row[to] /= weight
		}
	}
	return sums
}

// Mean is the mean of Of over some tokens; NaN of none.
func (v *Visits) Mean(t *Tokens, on []uint64) float64 {
	sum, weight := int64(0), int64(0)
	for i := range t.Len() {
		w := t.weight(int32(i))
		sum += w * int64(v.Of(t.of(int32(i)), on))
		weight += w
	}
	if weight == 0 {
		return math.NaN()
	}
	return float64(sum) / float64(weight)
}
