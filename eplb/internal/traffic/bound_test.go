package traffic

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestLeastParts(t *testing.T) {
	for _, c := range []struct {
		k     int
		pairs float64
		want  float64
	}{{4, 6, 1}, {4, 9, 1}, {4, 4, 1.5}, {4, 2, 2}, {4, 1, 3}, {4, .5, 3.5}, {4, 0, 4}, {1, 0, 1}} {
		if got := leastParts(c.k, c.pairs); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%d things, %v pairs: %v parts, want %v", c.k, c.pairs, got, c.want)
		}
	}
}

// TestBoundAgainstAll enumerates where every expert may be: on any nodes, as long
// as they have room.
func TestBoundAgainstAll(t *testing.T) {
	tight := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		slots := [][]int{{3, 3}, {2, 4}, {2, 2, 2}, {5, 0, 2}}[seed%4]
		const experts = 5
		k := 2 + rng.IntN(2)
		y := &Tokens{K: k}
		for range 40 {
			for _, e := range rng.Perm(3 + rng.IntN(3))[:k] {
				y.IDs = append(y.IDs, uint16(e))
			}
		}
		if seed%3 == 0 {
			for range 40 {
				y.Weight = append(y.Weight, int64(rng.IntN(4)))
			}
			y.Weight[0] = 1
		}
		_, weight := y.chosen(experts)
		best := math.Inf(1)
		on := make([]uint64, experts)
		var all func(e int, left []int)
		all = func(e int, left []int) {
			if e == experts {
				sum := 0.0
				for i := range y.Len() {
					sum += float64(fewest(y.of(int32(i)), on, len(slots))) * y.weight(int32(i))
				}
				best = min(best, sum/weight)
				return
			}
			for set := uint64(1); set < 1<<len(slots); set++ {
				ok := true
				for n := range slots {
					if set>>n&1 != 0 {
						left[n]--
						ok = ok && left[n] >= 0
					}
				}
				if ok {
					on[e] = set
					all(e+1, left)
				}
				for n := range slots {
					left[n] += int(set >> n & 1)
				}
			}
		}
		all(0, append([]int(nil), slots...))
		got := Bound(y, experts, slots)
		if got > best*(1+1e-9) {
			t.Errorf("seed %d: bound %v above the best, %v", seed, got, best)
		}
		if got > 1+(best-1)/3 {
			tight++
		}
	}
	if tight < 20 {
		t.Errorf("a third of the way to the best in %d of 60 cases", tight)
	}
}
