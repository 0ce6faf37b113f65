package traffic

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// What a token sends goes to the fewest nodes that hold what its own lacks, or
// to one for each expert where each is sent apart.
func TestSent(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for range 300 {
		nodes, k := 1+rng.IntN(9), 1+rng.IntN(6)
		on := make([]uint64, 12)
		for e := range on {
			for range 1 + rng.IntN(3) {
				on[e] |= 1 << rng.IntN(nodes)
			}
		}
		y := &Tokens{K: k}
		for i := range 1 + rng.IntN(6) {
			for _, e := range rng.Perm(len(on))[:k] {
				y.IDs = append(y.IDs, uint16(e))
			}
			y.Weight = append(y.Weight, int64(1+i))
		}
		v := NewVisits(nodes)
		weight := 0.0
		row, one := make([]float64, nodes), make([]float64, nodes)
		mean := 0.0
		for i := range int32(y.Len()) {
			w := y.weight(i)
			weight += w
			mean += w * float64(fewest(y.of(i), on, nodes))
			for from := range nodes {
				var left []uint16
				for _, e := range y.of(i) {
					if on[e]>>from&1 == 0 {
						left = append(left, e)
					}
				}
				one[from] += w * float64(len(left))
				set, least := v.Choose(left, on), fewest(left, on, nodes)
				row[from] += w * float64(bits.OnesCount64(set))
				for _, e := range left {
					if on[e]&set == 0 {
						t.Fatalf("expert %d on %b is not on %b", e, on[e], set)
					}
				}
				if n := bits.OnesCount64(set); n != least {
					t.Fatalf("%v on %b: nodes %b, %d are enough", left, on, set, least)
				}
			}
		}
		if got := v.Mean(y, on); math.Abs(got-mean/weight) > 1e-12 {
			t.Fatalf("%v nodes a token, want %v", got, mean/weight)
		}
		for _, perExpert := range []bool{false, true} {
			want := row
			if perExpert {
				want = one
			}
			dst := v.Sent(y, on, perExpert)
			for from := range nodes {
				sum := 0.0
				for to, x := range dst[from] {
					if sum += x; from == to && x != 0 {
						t.Fatalf("%v copies from node %d to itself", x, from)
					}
				}
				if math.Abs(sum-want[from]/weight) > 1e-9 {
					t.Fatalf("per expert %v: node %d sends %v, want %v", perExpert, from, sum, want[from]/weight)
				}
			}
		}
	}
}
