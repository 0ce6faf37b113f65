package traffic

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// fewest tries all sets of nodes.
func fewest(token []uint16, on []uint64, nodes int) int {
	best := nodes + 1
	for set := range uint64(1) << nodes {
		ok := true
		for _, e := range token {
			ok = ok && (on[e] == 0 || on[e]&set != 0)
		}
		if ok {
			best = min(best, bits.OnesCount64(set))
		}
	}
	return best
}

func TestVisitsAgainstAllSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 4000 {
		nodes, k := 1+rng.IntN(10), 1+rng.IntN(12)
		on := make([]uint64, 20)
		for e := range on {
			for range rng.IntN(4) { // some are on no node
				on[e] |= 1 << rng.IntN(nodes)
			}
		}
		token := make([]uint16, k)
		for i, e := range rng.Perm(len(on))[:k] {
			token[i] = uint16(e)
		}
		if got, want := NewVisits(nodes).Of(token, on), fewest(token, on, nodes); got != want {
			t.Fatalf("%d nodes, token %v, experts on %b: %d, want %d", nodes, token, on, got, want)
		}
	}
}

func TestVisitsByHand(t *testing.T) {
	// Expert 0 on node 0, 1 and 3 on node 1, 2 on both.
	on := []uint64{1, 2, 3, 2}
	v := NewVisits(2)
	for _, c := range []struct {
		token []uint16
		want  int
	}{{[]uint16{0, 2}, 1}, {[]uint16{0, 1}, 2}, {[]uint16{1, 2}, 1}, {[]uint16{1, 3}, 1}, {[]uint16{0, 2, 3}, 2}} {
		if got := v.Of(c.token, on); got != c.want {
			t.Errorf("token %v: %d nodes, want %d", c.token, got, c.want)
		}
	}
}

// TestAny: a random token is drawn by its weight.
func TestAny(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	for range 40 {
		y := &Tokens{K: 1, IDs: make([]uint16, 1+rng.IntN(20))}
		for range y.IDs {
			y.Weight = append(y.Weight, int64(rng.IntN(4)*rng.IntN(30)))
		}
		y.Weight[rng.IntN(len(y.Weight))] = 7
		v := newVisited(y, 2, make([]uint64, 1))
		const draws = 1 << 14
		seen := make([]float64, y.Len())
		for k := range uint64(draws) {
			seen[v.any(k<<50+1<<49)]++ // evenly
		}
		for i, n := range seen {
			if want := y.weight(int32(i)) / v.all * draws; math.Abs(n-want) > 2 {
				t.Fatalf("weights %v: token %d is drawn %v times, not %v", y.Weight, i, n, want)
			}
		}
	}
}
