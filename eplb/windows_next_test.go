package eplb

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/placement"
)

// alternating is windows in which two halves of the experts take turns at
// being hot.
func alternating(layers, experts, windows int, seed uint64) []placement.Loads {
	r := rand.New(rand.NewPCG(seed, 0))
	var out []placement.Loads
	base := placement.NewLoads(layers, experts)
	for _, row := range base {
		for e := range row {
			row[e] = math.Exp(r.NormFloat64())
		}
	}
	for k := range windows {
		w := placement.NewLoads(layers, experts)
		for l, row := range w {
			for e := range row {
				row[e] = base[l][e]
				if (e*7+l)%2 == k%2 {
					row[e] *= 8
				}
			}
		}
		out = append(out, w)
	}
	return out
}

// followed is windows of 3,072 tokens a layer, of three kinds of text in turn.
func followed(rng *rand.Rand, layers, experts, windows int) (out []placement.Loads) {
	kinds := make([]placement.Loads, 3)
	for k := range kinds {
		kinds[k] = placement.NewLoads(layers, experts)
		for _, row := range kinds[k] {
			sum := 0.0
			for e := range row {
				row[e] = math.Exp(rng.NormFloat64())
				sum += row[e]
			}
			for e := range row {
				row[e] *= 3072 / sum
			}
		}
	}
	for i := range windows {
		w := placement.NewLoads(layers, experts)
		for l, row := range kinds[i%3] {
			for e, x := range row {
				w[l][e] = math.Round(max(0, x+float64(math.Sqrt(x)*rng.NormFloat64())))
			}
		}
		out = append(out, w)
	}
	return out
}

// TestWindowsHoldInTheNext holds what plans of the last four windows reach in the one
// that follows, four moves a layer, on 20 drawn sequences: 1.1373. By the norm of the
// power 16 alone, which fits the four better, it is 1.1427.
func TestWindowsHoldInTheNext(t *testing.T) {
	t.Parallel()
	const sequences, layers, past, windows = 20, 4, 4, 12
	unit := placement.Topology{GPUs: 8}
	mean := 0.0
	for seed := range uint64(sequences) {
		all := followed(rand.New(rand.NewPCG(seed, 5)), layers, 64, windows)
		r := mustPlan(t, Problem{Loads: all[0], Replicas: 72, Topology: unit}, Options{})
		for i := past; i < windows; i++ {
			prev := r.Placement
			r = mustPlan(t, Problem{Windows: all[i-past : i], Replicas: 72, Topology: unit, Previous: &prev}, Options{MaxMoves: 4 * layers})
			next, err := r.Placement.ImbalanceOver(all[i:i+1], unit)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range next {
				mean += x / sequences / layers / (windows - past)
			}
		}
	}
	if mean > 1.14 {
		t.Errorf("mean imbalance in the next window %v", mean)
	}
}

func TestWindowsBeatTheirSum(t *testing.T) {
	for _, p := range []Problem{
		{Replicas: 72, Topology: placement.H800(1)},
		{Replicas: 75, Topology: placement.H800(1)},
		{Replicas: 96, Topology: placement.Topology{GPUs: 12, Nodes: 3, Speed: []float64{1, 1, 0, 2, 1, 1, 1, 1, .5, 1, 1, 1}}},
		{Replicas: 128, Topology: placement.Topology{GPUs: 64}},
		{Replicas: 66, Topology: placement.Topology{GPUs: 3}},
		{Replicas: 64, Topology: placement.Topology{GPUs: 1}},
		{Replicas: 200, Topology: placement.Topology{GPUs: 2}},
	} {
		p.Windows = alternating(6, 64, 5, 1)
		r, err := Plan(t.Context(), p, Options{Locality: Free})
		if err != nil {
			t.Fatal(err)
		}
		checkWindows(t, p, r)
		if n := r.Placement.Duplicates(); n > 0 {
			t.Errorf("%d GPUs: %d experts twice on one GPU", p.Topology.GPUs, n)
		}
		sum := p
		sum.Windows, sum.Loads = nil, placement.NewLoads(len(p.Windows[0]), p.Windows[0].Experts())
		for _, w := range p.Windows[max(0, len(p.Windows)-5):] {
			if err := sum.Loads.AddWindow(w); err != nil {
				t.Fatal(err)
			}
		}
		other, err := Plan(t.Context(), sum, Options{Locality: Free})
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := other.Placement.ImbalanceOver(p.Windows, p.Topology)
		if err != nil {
			t.Fatal(err)
		}
		ours, gain := 0.0, 0.0
		for l, x := range theirs {
			ours += (r.Layers[l].Imbalance - 1) / 6
			gain += (x - r.Layers[l].Imbalance) / 6
			if r.Layers[l].Imbalance > x*(1+1e-9) {
				t.Errorf("%d GPUs, layer %d: %v, the plan on the sum %v", p.Topology.GPUs, l, r.Layers[l].Imbalance, x)
			}
		}
		t.Logf("%d GPUs, %d slots: %.4f above 1, the plan on the sum %.4f more", p.Topology.GPUs, p.Replicas, ours, gain)
		if gpus := p.Topology.GPUs; gpus == 8 && gain < 5*ours {
			t.Errorf("%d GPUs: %v above 1, the plan on the sum only %v more", gpus, ours, gain)
		}
	}
}
