package eplb

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// tinyWindows is a random problem small enough to enumerate.
func tinyWindows(r *rand.Rand) Problem {
	experts, gpus := 2+r.IntN(4), 2+r.IntN(2)
	p := Problem{Topology: placement.Topology{GPUs: gpus}}
	least := max(experts, gpus)
	p.Replicas = least + r.IntN(min(3*gpus, experts*gpus)-least+1)
	if r.IntN(3) == 0 {
		p.Topology.Speed = make([]float64, gpus)
		for g := range p.Topology.Speed {
			p.Topology.Speed[g] = []float64{0.5, 1, 2}[r.IntN(3)]
		}
	}
	for range 2 + r.IntN(4) {
		w := placement.NewLoads(1, experts)
		total := math.Pow(10, float64(r.IntN(4)))
		for e := range w[0] {
			w[0][e] = math.Round(total * math.Exp(2*r.NormFloat64()))
			if r.IntN(6) == 0 {
				w[0][e] = 0
			}
		}
		p.Windows = append(p.Windows, w)
	}
	return p
}

// bestOf enumerates every way to put experts on the GPUs of layer 0 and returns
// the least imbalance over the windows. If full, only placements
// that leave no slot empty count.
func bestOf(p Problem, full bool) float64 {
	gpus, experts := p.Topology.GPUs, p.Windows[0].Experts()
	room := placement.EvenSlots(p.Replicas, gpus)
	sets := make([]uint, gpus)
	count := make([]float64, experts)
	gpu := make([]float64, gpus)
	best := math.Inf(1)
	var walk func(g int)
	walk = func(g int) {
		if g < gpus {
			for set := uint(0); set < 1<<experts; set++ {
				n := bits.OnesCount(set)
				if n > room[g] || (full && n < min(room[g], experts)) {
					continue
				}
				sets[g] = set
				walk(g + 1)
			}
			return
		}
		clear(count)
		for _, set := range sets {
			for e := range count {
				count[e] += float64(set >> e & 1)
			}
		}
		for _, c := range count {
			if c == 0 {
				return
			}
		}
		sum, all := 0.0, 0.0
		for _, w := range p.Windows {
			total := 0.0
			for _, x := range w[0] {
				total += x
			}
			all += total
			for g, set := range sets {
				gpu[g] = 0
				for e := range count {
					if set>>e&1 != 0 {
						gpu[g] += w[0][e] / count[e]
					}
				}
			}
			sum += placement.Imbalance(gpu, p.Topology.Speed) * total
		}
		best = min(best, sum/max(all, 1e-300))
	}
	walk(0)
	return best
}

func TestWindowsAgainstEnumeration(t *testing.T) {
	const instances = 500
	optimal, planned := 0, 0
	for seed := range uint64(instances) {
		p := tinyWindows(rand.New(rand.NewPCG(seed, 3)))
		r, err := Plan(t.Context(), p, Options{Tolerance: -1})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		checkWindows(t, p, r)
		live := 0
		for _, w := range p.Windows {
			if slices.Max(w[0]) > 0 {
				live++
			}
		}
		if live < 2 {
			continue // planned as Loads
		}
		planned++
		best := bestOf(p, true)
		got := r.Layers[0]
		if got.Imbalance < best*(1-1e-9) {
			t.Errorf("seed %d: %v is below the optimum %v", seed, got.Imbalance, best)
		}
		if got.Imbalance > best*1.02 {
			t.Errorf("seed %d: %v, optimum %v", seed, got.Imbalance, best)
		}
		if got.Imbalance <= best*(1+1e-9) {
			optimal++
		} else if got.Status == Proved {
			t.Errorf("seed %d: %v called optimal, optimum %v", seed, got.Imbalance, best)
		}
		if got.LowerBound > best*(1+1e-9) {
			t.Errorf("seed %d: bound %v, but %v can be had", seed, got.LowerBound, best)
		}
	}
	t.Logf("%d of %d optimal", optimal, planned)
	if optimal < planned*95/100 {
		t.Errorf("%d of %d optimal: at least 95%% are wanted", optimal, planned)
	}
}

// The published policy adds the windows up as they are, but the mean over the
// windows counts them alike: the bound must be of the mean.
func TestWindowsBoundOfDeepSeek(t *testing.T) {
	n := 0
	for seed := range uint64(200) {
		p := tinyWindows(rand.New(rand.NewPCG(seed, 9)))
		p.Topology.Speed = nil
		if p.Replicas%p.Topology.GPUs != 0 {
			continue
		}
		n++
		r, err := Plan(t.Context(), p, Options{Policy: DeepSeek})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		checkWindows(t, p, r)
		if best := bestOf(p, false); r.Layers[0].LowerBound > best*(1+1e-9) {
			t.Errorf("seed %d: bound %v, but %v can be had", seed, r.Layers[0].LowerBound, best)
		}
	}
	if n < 20 {
		t.Errorf("%d problems tried", n)
	}
}
