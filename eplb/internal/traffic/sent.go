package traffic

import (
	"math"
	"math/bits"
)

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
