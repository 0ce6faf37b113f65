package split

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// weighted is the mean over windows of a layer's imbalance under given weights.
func weighted(t testing.TB, p *placement.Placement, top *placement.Topology, layer int, weights []float64, windows []placement.Loads) float64 {
	first := p.FirstSlots()
	share := make([]float64, p.Experts)
	mean := 0.0
	for _, w := range windows {
		load := make([]float64, p.GPUs)
		speed := make([]float64, p.GPUs)
		clear(share)
		for g := range p.GPUs {
			speed[g] = 1
			if top.GPUs > 0 {
				speed[g] = top.SpeedOf(g)
			}
			for i := first[g]; i < first[g+1]; i++ {
				e := p.PhysicalToLogical[layer][i]
				if weights[i] < 0 || (e < 0 && weights[i] != 0) {
					t.Fatalf("slot %d of expert %d: weight %v", i, e, weights[i])
				}
				if e >= 0 {
					load[g] += weights[i] * w[layer][e]
					share[e] += weights[i]
				}
			}
		}
		mean += placement.Imbalance(load, speed) / float64(len(windows))
	}
	for e, s := range share {
		if math.Abs(s-1) > 1e-12 {
			t.Fatalf("expert %d: weights add up to %v", e, s)
		}
	}
	return mean
}

func TestStaticWeights(t *testing.T) {
	const seed = 1
	tried, gaps := 0, 0
	worst := 0.0
	for n := 0; tried < 1500; n++ {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		gpus := 1 + rng.IntN(6)
		top := placement.Topology{GPUs: gpus, Speed: workload.UnlikeSpeeds(rng, gpus)}
		p := randomPlacement(rng, 1+rng.IntN(8), gpus, 5, top.Speed)
		windows := make([]placement.Loads, 1+rng.IntN(4))
		for k := range windows {
			windows[k] = placement.Loads{workload.UnlikeLoads(rng, p.Experts)}
			if rng.IntN(10) == 0 {
				clear(windows[k][0])
			}
		}
		weights, layers, err := StaticWeights(&p, top, windows)
		if err != nil {
			continue
		}
		tried++
		got := weighted(t, &p, &top, 0, weights[0], windows)
		if math.Abs(got-layers[0].Imbalance) > 1e-9*got {
			t.Fatalf("seed %d/%d: imbalance %v, but the weights' is %v", seed, n, layers[0].Imbalance, got)
		}
		gap := layers[0].Imbalance/layers[0].LowerBound - 1
		worst = max(worst, gap)
		if gap > weightGap {
			gaps++
		}
		// No other weights are below the bound: random ones near and far.
		first := p.FirstSlots()
		for range 60 {
			other := slices.Clone(weights[0])
			far := math.Pow(10, -4*rng.Float64())
			sum := make([]float64, p.Experts)
			for g := range gpus {
				for i := first[g]; i < first[g+1]; i++ {
					if e := p.PhysicalToLogical[0][i]; e >= 0 {
						other[i] += far * rng.Float64() * float64(rng.IntN(2))
						sum[e] += other[i]
					}
				}
			}
			for i, e := range p.PhysicalToLogical[0] {
				if e >= 0 {
					other[i] /= sum[e]
				}
			}
			if x := weighted(t, &p, &top, 0, other, windows); x < layers[0].LowerBound*(1-1e-9) {
				t.Fatalf("seed %d/%d: other weights reach %v, below the bound %v", seed, n, x, layers[0].LowerBound)
			}
		}
	}
	t.Logf("seed %d: of %d, %d are further than %v above their bound, the worst %.2g", seed, tried, gaps, weightGap, worst)
	if gaps > 0 {
		t.Errorf("seed %d: %d of %d are further than %v above their bound, the worst %v", seed, gaps, tried, weightGap, worst)
	}
}

func TestStaticWeightsRefuse(t *testing.T) {
	p := placement.Trivial(1, 2, 4, 2)
	good := placement.Loads{{1, 2}}
	for _, c := range []struct {
		want    string
		t       placement.Topology
		windows []placement.Loads
	}{
		{"loads: no windows", placement.Topology{}, nil},
		{"loads: window 1 is 1x3, but the placement has 1 layers of 2 experts", placement.Topology{}, []placement.Loads{good, {{1, 2, 3}}}},
		{"loads: layer 0, index 1: -1 is negative", placement.Topology{}, []placement.Loads{{{1, -1}}}},
		{"num_gpus: the placement has 2, the topology 3", placement.Topology{GPUs: 3}, []placement.Loads{good}},
	} {
		if _, _, err := StaticWeights(&p, c.t, c.windows); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// Weights for one window are the best split of it.
func TestStaticWeightsOfOneWindow(t *testing.T) {
	loads := workload.Zipf(4, 256, 1.2, 1e6, 3)
	r := mustPlan(t, eplb.Problem{Loads: loads, Replicas: 288, Topology: placement.PrefillUnit()}, eplb.Options{})
	weights, layers, err := StaticWeights(&r.Placement, placement.Topology{}, []placement.Loads{loads})
	if err != nil {
		t.Fatal(err)
	}
	for l, x := range layers {
		if x.Status != eplb.Proved {
			t.Errorf("layer %d: %+v", l, x)
		}
		if got := weighted(t, &r.Placement, &placement.Topology{}, l, weights[l], []placement.Loads{loads}); math.Abs(got-x.Imbalance) > 1e-9 {
			t.Errorf("layer %d: %v, reported %v", l, got, x.Imbalance)
		}
	}
}

// TestStaticWeightsOfTraces demands weights of loads whose sum is too small to be divided
// by.
func TestStaticWeightsOfTraces(t *testing.T) {
	p := &placement.Placement{Experts: 3, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, 1, 2, 2, 0}}}
	for _, x := range []float64{5e-324, 1e-310} {
		trace := placement.Loads{{3 * x, 2 * x, x}}
		for _, windows := range [][]placement.Loads{{trace}, {trace, {{x, 0, 4 * x}}}, {trace, {{1, 2, 3}}}} {
			_, y, err := StaticWeights(p, placement.Topology{}, windows)
			if err != nil || !(y[0].LowerBound >= 1 && y[0].LowerBound <= y[0].Imbalance && y[0].Imbalance <= 3) {
				t.Errorf("%v: %+v, %v", windows, y, err)
			}
		}
	}
}
