package eplb

import (
	"math"
	"testing"

	"github.com/moelb/moelb/placement"
)

// A budget of moves goes where it lessens the time of the tokens that there are: a
// layer that few tokens see comes last, one that is not in use has none.
func TestLayerWeights(t *testing.T) {
	// Layer 0 gains most by a move, layer 1 some, layer 2 as much as layer 1.
	loads := placement.Loads{{9, 9, 1, 1, 1, 1}, {6, 6, 3, 3, 3, 3}, {6, 6, 3, 3, 3, 3}}
	at := placement.Placement{Experts: 6, GPUs: 2}
	for range loads {
		at.PhysicalToLogical = append(at.PhysicalToLogical, []int{0, 1, 2, 3, 4, 5})
	}
	p := Problem{Loads: loads, Replicas: 6, Topology: placement.Topology{GPUs: 2}, Previous: &at}
	for _, c := range []struct {
		weights []float64
		moves   int
		want    [3]int
	}{
		{nil, 2, [3]int{2, 0, 0}}, {nil, 4, [3]int{2, 2, 0}}, {[]float64{1, 1, 1}, 4, [3]int{2, 2, 0}}, {[]float64{.1, 1, 1}, 2, [3]int{0, 2, 0}},
		{[]float64{.1, 1, 2}, 2, [3]int{0, 0, 2}}, {[]float64{0, 1, 1}, 6, [3]int{0, 2, 2}}, {[]float64{1, 0, 1}, 4, [3]int{2, 0, 2}}, {[]float64{.1, 1, 1}, 6, [3]int{2, 2, 2}},
	} {
		p.LayerWeights = c.weights
		r, err := Plan(t.Context(), p, Options{MaxMoves: c.moves})
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]int{r.Layers[0].Moves, r.Layers[1].Moves, r.Layers[2].Moves}; got != c.want {
			t.Errorf("weights %v, %d moves: %v, want %v", c.weights, c.moves, got, c.want)
		}
	}
	for _, bad := range [][]float64{{1, 1}, {1, 1, -1}, {1, math.NaN(), 1}, {1, 1, math.Inf(1)}} {
		p.LayerWeights = bad
		if _, err := Plan(t.Context(), p, Options{}); err == nil {
			t.Errorf("weights %v accepted", bad)
		}
	}
}
