package eplb

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// checkPlan checks what must hold of every plan and returns its scores.
func checkPlan(t *testing.T, p Problem, r Result) []placement.Score {
	t.Helper()
	q := r.Placement
	if err := q.Validate(); err != nil {
		t.Fatalf("%v: invalid plan: %v", p, err)
	}
	scores, err := q.ScoreLayers(p.Loads, p.Topology)
	if err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	if q.Slots() != p.Replicas {
		t.Fatalf("%v: %d slots", p, q.Slots())
	}
	if n := q.Duplicates(); n > 0 {
		t.Fatalf("%v: %d replicas beside another of the same expert: %v", p, n, q.PhysicalToLogical)
	}
	first := q.FirstSlots()
	for l, row := range q.PhysicalToLogical {
		x := r.Layers[l]
		if math.Abs(x.Imbalance-scores[l].Imbalance) > 1e-12*x.Imbalance {
			t.Fatalf("%v: layer %d: imbalance %v, scored %v", p, l, x.Imbalance, scores[l].Imbalance)
		}
		if !(x.LowerBound <= x.Imbalance && x.LowerBound >= 1-1e-12) {
			t.Fatalf("%v: layer %d: imbalance %v, bound %v", p, l, x.Imbalance, x.LowerBound)
		}
		if x.Status == Proved && x.Imbalance > x.LowerBound*(1+2*provedTolerance) {
			t.Fatalf("%v: layer %d: optimal at %v, bound %v", p, l, x.Imbalance, x.LowerBound)
		}
		for g := range q.GPUs {
			filled := 0
			for _, e := range row[first[g]:first[g+1]] {
				if e >= 0 {
					filled++
				}
			}
			want := min(first[g+1]-first[g], q.Experts)
			if p.Topology.SpeedOf(g) == 0 {
				want = 0
			}
			if filled != want {
				t.Fatalf("%v: layer %d: GPU %d holds %d experts, not %d", p, l, g, filled, want)
			}
		}
	}
	return scores
}

func mustPlan(t *testing.T, p Problem, o Options) Result {
	t.Helper()
	r, err := Plan(context.Background(), p, o)
	if err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	return r
}

func TestTinyAgainstExhaustiveSearch(t *testing.T) {
	const seed, n = 1, 3000
	r := rand.New(rand.NewPCG(seed, 0))
	type tally struct {
		n, optimal, proved int
		worst              float64
	}
	by := map[string]*tally{}
	all := tally{worst: 1}
	for i := range n {
		p, kind := drawTiny(r, i)
		res := mustPlan(t, p, Options{})
		scores := checkPlan(t, p, res)
		got := scores[0].Imbalance
		best := oracle(p.Loads[0], p.Topology, p.Replicas, got)
		k := by[kind]
		if k == nil {
			k = &tally{worst: 1}
			by[kind] = k
		}
		ratio := got / best
		for _, k := range []*tally{k, &all} {
			k.n++
			k.worst = max(k.worst, ratio)
			if ratio <= 1+1e-9 {
				k.optimal++
			}
			if res.Layers[0].Status == Proved {
				k.proved++
			}
		}
		if x := res.Layers[0]; x.LowerBound > best*(1+1e-9) {
			t.Errorf("seed %d, instance %d (%s) %v: bound %v above the optimum %v", seed, i, kind, p, x.LowerBound, best)
		} else if x.Status == Proved && ratio > 1+1e-8 {
			t.Errorf("seed %d, instance %d (%s) %v: called optimal at %v, optimum %v", seed, i, kind, p, got, best)
		} else if ratio > 1.01 {
			t.Errorf("seed %d, instance %d (%s) %v: %v, optimum %v", seed, i, kind, p, got, best)
		}
	}
	kinds := make([]string, 0, len(by))
	for k := range by {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, name := range append(kinds, "all") {
		k := by[name]
		if name == "all" {
			k = &all
		}
		t.Log(fmt.Sprintf("%-17s n %4d  optimal %6.2f%%  proved %6.2f%%  worst ratio %.6f", name, k.n, 100*float64(k.optimal)/float64(k.n), 100*float64(k.proved)/float64(k.n), k.worst))
	}
	t.Logf("seed %d", seed)
	if all.optimal < n*99/100 {
		t.Errorf("seed %d: the optimum in %d of %d", seed, all.optimal, n)
	}
}
