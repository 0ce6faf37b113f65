package traffic

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Houses lists every way to share groups by nodes once, with the nodes that counting
// token by token has, the fewest first.
func TestHouses(t *testing.T) {
	for _, c := range []struct{ groups, nodes, ways int }{{8, 4, 105}, {8, 2, 35}, {4, 4, 1}, {6, 3, 15}, {6, 1, 1}, {9, 3, 280}, {12, 6, 0}, {12, 4, 0}, {16, 2, 0}, {7, 2, 0}, {128, 64, 0}, {10, 5, 945}} {
		rng := rand.New(rand.NewPCG(uint64(c.groups), uint64(c.nodes)))
		const per, k = 3, 4
		experts := per * c.groups
		tokens := &Tokens{K: k}
		for range 50 {
			for _, e := range rng.Perm(experts)[:min(k, experts)] {
				tokens.IDs = append(tokens.IDs, uint16(e))
			}
			tokens.Weight = append(tokens.Weight, int64(rng.IntN(3)))
		}
		all := Houses(tokens, experts, c.groups, c.nodes)
		if len(all) != c.ways {
			t.Errorf("%d groups on %d nodes: %d ways, want %d", c.groups, c.nodes, len(all), c.ways)
		}
		seen := map[string]bool{}
		v := NewVisits(c.nodes)
		for i, h := range all {
			on, used := make([]uint64, experts), make([]int, c.nodes)
			for e := range on {
				on[e] = 1 << h.Home[e/per]
			}
			for _, n := range h.Home {
				used[n]++
			}
			seen[string(h.bytes())] = true
			if want := v.Mean(tokens, on); h.Nodes != want { // to the bit: the door compares them
				t.Fatalf("%v: %v nodes a token, counted %v", h.Home, h.Nodes, want)
			}
			if i > 0 && h.Nodes < all[i-1].Nodes || slices.Max(used) != slices.Min(used) {
				t.Errorf("%v after %v", h, all[i-1])
			}
		}
		if len(seen) != len(all) {
			t.Errorf("%d groups on %d nodes: %d of %d ways differ", c.groups, c.nodes, len(seen), len(all))
		}
	}
}

// bytes is a way with its nodes numbered as they appear.
func (h House) bytes() (out []byte) {
	name := map[int32]byte{}
	for _, n := range h.Home {
		if _, ok := name[n]; !ok {
			name[n] = byte(len(name))
		}
		out = append(out, name[n])
	}
	return out
}
