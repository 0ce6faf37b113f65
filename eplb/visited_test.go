package eplb

import (
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/placement"
)

// ScoreRoutes says what enumeration of all sets of nodes and of GPUs says, and what
// a plan says of itself.
func TestScoreRoutes(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 8))
		unit := placement.Topology{GPUs: 6, NodeGPUs: []int{3, 2, 1}}
		if seed%2 == 1 {
			unit.Speed = []float64{1, 0, .5, 1, 1, float64(seed / 2 % 2)}
		}
		const experts, slots, k, tokens = 9, 14, 3, 30
		r := &placement.Routes{TopK: k, IDs: make([][]uint16, 2)}
		for range tokens {
			for _, e := range rng.Perm(experts)[:k] {
				r.IDs[0] = append(r.IDs[0], uint16(e))
			}
		}
		at := placement.Trivial(2, experts, slots, unit.GPUs)
		rng.Shuffle(slots, func(i, j int) {
			row := at.PhysicalToLogical[0]
			row[i], row[j] = row[j], row[i]
		})
		got, err := ScoreRoutes(&at, r, unit)
		if err != nil {
			t.Fatal(err)
		}
		first := at.FirstSlots()
		var onGPU, onNode [experts]uint
		for g := range unit.GPUs {
			for _, e := range at.PhysicalToLogical[0][first[g]:first[g+1]] {
				onGPU[e] |= 1 << g
				onNode[e] |= 1 << unit.Node(g)
			}
		}
		fewest := func(token []uint16, on *[experts]uint, n int, free uint) int {
			best := n
			for set := range uint(1 << n) {
				all := true
				for _, e := range token {
					all = all && on[e]&(set|free) != 0
				}
				if all {
					best = min(best, bits.OnesCount(set))
				}
			}
			return best
		}
		var want Visited
		for i := range tokens {
			token := r.Token(0, i)
			want.Nodes += float64(fewest(token, &onNode, 3, 0)) / tokens
			want.GPUs += float64(fewest(token, &onGPU, 6, 0)) / tokens
			for g := range unit.GPUs {
				if unit.SpeedOf(g) == 0 {
					continue
				}
				home := uint(1) << unit.Node(g)
				want.Sent[PerNode] += float64(fewest(token, &onNode, 3, home)) / tokens / float64(unit.InService())
				for _, e := range token {
					if onNode[e]&home == 0 {
						want.Sent[PerExpert] += 1. / tokens / float64(unit.InService())
					}
				}
			}
		}
		m := MeanVisited(got) // the other layer has no tokens
		for _, x := range [][3]float64{{got[0].Nodes, m.Nodes, want.Nodes}, {got[0].GPUs, m.GPUs, want.GPUs}, {got[0].Sent[PerNode], m.Sent[PerNode], want.Sent[PerNode]}, {got[0].Sent[PerExpert], m.Sent[PerExpert], want.Sent[PerExpert]}} {
			if math.Abs(x[0]-x[2]) > 1e-9 || x[0] != x[1] {
				t.Fatalf("seed %d: %+v, mean %+v, want %+v", seed, got, m, want)
			}
		}
		if !math.IsNaN(got[1].Nodes) || !math.IsNaN(got[1].GPUs) || !math.IsNaN(got[1].Sent[PerNode]) {
			t.Errorf("a layer without tokens: %+v", got[1])
		}
	}
	at := placement.Trivial(1, 2, 2, 2)
	r := placement.Routes{TopK: 1, IDs: [][]uint16{{0}}}
	for _, c := range []struct {
		at placement.Placement
		r  placement.Routes
		t  placement.Topology
	}{
		{at, r, placement.Topology{GPUs: 3}}, {at, placement.Routes{TopK: 1, IDs: [][]uint16{{2}}}, placement.Topology{GPUs: 2}},
		{at, placement.Routes{TopK: 1, IDs: [][]uint16{{0}, {1}}}, placement.Topology{GPUs: 2}}, {placement.Placement{}, r, placement.Topology{GPUs: 2}},
		{placement.Trivial(1, 2, 80, 80), r, placement.Topology{GPUs: 80, Nodes: 80}}, {at, r, placement.Topology{}},
	} {
		var bad *placement.Error
		if _, err := ScoreRoutes(&c.at, &c.r, c.t); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestScoreRoutesOfShapes: a token of an expert that a layer does not have is refused.
func TestScoreRoutesOfShapes(t *testing.T) {
	at := placement.Placement{Experts: 3, LayerExperts: []int{3, 2}, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 0}, {0, 1, 1, 0}}}
	r := &placement.Routes{TopK: 2, IDs: [][]uint16{{0, 2, 1, 2}, {0, 1, 1, 2}}}
	_, err := ScoreRoutes(&at, r, placement.Topology{GPUs: 2, Nodes: 2})
	if bad := (*placement.Error)(nil); !errors.As(err, &bad) || bad.Field != "routes" || bad.Layer != 1 || bad.Index != 1 {
		t.Errorf("%v", err)
	}
	r.IDs[1][3] = 0
	if _, err := ScoreRoutes(&at, r, placement.Topology{GPUs: 2, Nodes: 2}); err != nil {
		t.Error(err)
	}
}

// Tokens that are planned with come evenly from all that are not held out, of which every
// eighth is.
func TestSample(t *testing.T) {
	for _, n := range []int{0, 1, 511, 512, sampled, sampled + 1, 9500, 300_000} {
		r := &placement.Routes{TopK: 2, IDs: [][]uint16{{}}}
		for i := range n { // a token's number, low half first
			r.IDs[0] = append(r.IDs[0], uint16(i), uint16(i>>16))
		}
		all, planned, held := sample(r, 0)
		out := 0
		if n >= leastHeld {
			out = n / heldOut
		}
		if all.Len() != n || held.Len() != out || planned.Len() != min(n-out, sampled) {
			t.Errorf("%d tokens: %d, %d planned with, %d held out", n, all.Len(), planned.Len(), held.Len())
		}
		for i := range planned.Len() {
			at := int(planned.IDs[2*i]) | int(planned.IDs[2*i+1])<<16
			if even := float64(i+1) / float64(planned.Len()) * float64(n); math.Abs(float64(at)-even) > 2+float64(n)/sampled {
				t.Fatalf("%d tokens: number %d planned with is %d, evenly it is %.0f", n, i, at, even)
			}
		}
	}
}
