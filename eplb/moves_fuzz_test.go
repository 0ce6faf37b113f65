package eplb

import (
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
)

// FuzzMoves plans from any valid placement in force: with experts twice on a
// GPU, empty slots, more or fewer GPUs, GPUs of any speed, and on to two nodes.
func FuzzMoves(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, uint8(seed), seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, kind uint8, two bool) {
		rng := rand.New(rand.NewPCG(seed, uint64(kind)))
		experts, gpus := 1+rng.IntN(12), 1+rng.IntN(8)
		p := Problem{Replicas: experts + rng.IntN(20), Topology: placement.Topology{GPUs: gpus, Speed: workload.UnlikeSpeeds(rng, gpus)}}
		if two && gpus%2 == 0 {
			p.Topology.Nodes = 2
		}
		for range 1 + rng.IntN(3) {
			p.Loads = append(p.Loads, drawLoads(rng, loadKinds[int(kind)%len(loadKinds)], experts))
		}
		// The placement in force: any experts anywhere.
		old, slots := gpus, p.Replicas
		if rng.IntN(3) == 0 {
			old, slots = 1+rng.IntN(8), experts+rng.IntN(20)
			if old == gpus {
				slots = p.Replicas
			}
		}
		v := placement.Placement{Experts: experts, GPUs: old, GPUSlots: placement.EvenSlots(slots, old)}
		for range p.Loads {
			row := make([]int, slots)
			for s := range row {
				row[s] = rng.IntN(experts+1) - 1
			}
			for e, s := range rng.Perm(slots)[:experts] {
				row[s] = e
			}
			v.PhysicalToLogical = append(v.PhysicalToLogical, row)
		}
		p.Previous = &v
		o := Options{TwoNodes: two, Locality: Free, Restarts: rng.IntN(3) - 1, MaxMoves: rng.IntN(8) - 1, Workers: 1}
		if rng.IntN(2) == 0 {
			o.Target = 1 + rng.Float64()
		}
		if rng.IntN(2) == 0 {
			o.Dispatch = Split
		}
		r, err := Plan(t.Context(), p, o)
		if err != nil {
			q, qo := p, o
			if validate(&q, &qo) == nil {
				t.Fatal(err)
			}
			return
		}
		if err := r.Placement.Validate(); err != nil {
			t.Fatal(err)
		}
		if two {
			checkTwoNodes(t, p, &r.Placement)
		}
		scores, err := r.Placement.ScoreLayers(p.Loads, p.Topology)
		if err != nil {
			t.Fatal(err)
		}
		for l, x := range r.Layers {
			if x.LowerBound > x.Imbalance || x.Imbalance < 1-1e-9 {
				t.Fatalf("layer %d: %+v", l, x)
			}
			if s := scores[l].Imbalance; o.Dispatch == Even && (s > x.Imbalance*(1+1e-9) || x.Imbalance > s*(1+1e-9)) {
				t.Fatalf("layer %d: imbalance %v, reported %v", l, s, x.Imbalance)
			}
		}
		if old != gpus {
			return
		}
		moves, err := v.CountMoves(&r.Placement)
		if err != nil {
			t.Fatal(err)
		}
		for l, n := range moves {
			if n < r.Layers[l].Moves {
				t.Fatalf("layer %d: %d moves counted, %d reported", l, n, r.Layers[l].Moves)
			}
		}
	})
}
