package eplb

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// A unit that loses a node, or slots, comes within its target at fewer moves than paths find
// that look no further than their next step, and keeps what it must: experts on two
// nodes, groups on theirs, the target over all windows.
func TestFewerMovesWhereUnitsShrink(t *testing.T) {
	from, to := placement.Topology{GPUs: 10, Nodes: 5}, placement.Topology{GPUs: 8, Nodes: 4}
	paths, found := map[string]int{}, map[string]int{}
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 8))
		loads := placement.NewLoads(1, 40)
		for e := range loads[0] {
			loads[0][e] = float64(1 + rng.IntN(1+rng.IntN(300)))
		}
		later := placement.Loads{slices.Clone(loads[0])}
		for e := range later[0] {
			later[0][e] *= .5 + rng.Float64()
		}
		for name, c := range map[string]struct {
			p Problem
			o Options
		}{
			"plain":     {Problem{Loads: loads, Replicas: 48, Topology: to}, Options{Locality: Free}},
			"two nodes": {Problem{Loads: loads, Replicas: 96, Topology: to}, Options{Locality: Free, TwoNodes: true}},
			"groups":    {Problem{Loads: loads, Replicas: 48, Topology: to, Groups: 20}, Options{OffNodeReplicas: 3}},
			"windows":   {Problem{Windows: []placement.Loads{loads, later}, Replicas: 48, Topology: to}, Options{Locality: Free}},
		} {
			was := c.p
			was.Topology, was.Replicas, was.Windows, was.Loads = from, c.p.Replicas/8*10, nil, loads
			if c.p.Groups > 0 { // whose node must not leave: GPUs have fewer slots instead
				was.Topology, was.Replicas = to, 64
			}
			before, err := Plan(t.Context(), was, c.o)
			if err != nil {
				t.Fatal(name, err)
			}
			p := c.p
			p.Previous = &before.Placement
			for _, restarts := range []int{-1, 0} {
				c.o.Restarts = restarts
				r, err := Plan(t.Context(), p, c.o)
				if err != nil {
					t.Fatal(name, err)
				}
				if restarts < 0 {
					paths[name] += r.Layers[0].Moves
				} else {
					found[name] += r.Layers[0].Moves
				}
				row := r.Placement.PhysicalToLogical[0]
				each, off := len(row)/4, 0
				for e := range 40 {
					on := map[int]bool{}
					for i, x := range row {
						if x == e {
							on[i/each] = true
							if c.p.Groups > 0 && r.Locality.Home[0][e/2] != i/each {
								off++
							}
						}
					}
					if len(on) == 0 || c.o.TwoNodes && len(on) < 2 {
						t.Errorf("%s, seed %d: expert %d is on nodes %v", name, seed, e, on)
					}
				}
				if off > c.o.OffNodeReplicas {
					t.Errorf("%s, seed %d: %d replicas off their group's node", name, seed, off)
				}
				if r.Placement.Duplicates() > 0 {
					t.Errorf("%s, seed %d: an expert is twice on a GPU", name, seed)
				}
				if n := moved(before.Placement.PhysicalToLogical[0], row, was.Replicas/was.Topology.GPUs, len(row)/8); n != r.Layers[0].Moves {
					t.Errorf("%s, seed %d: says %d moves, counted %d", name, seed, r.Layers[0].Moves, n)
				}
			}
		}
	}
	if a, b, c := found["plain"], found["two nodes"], found["groups"]; a > 56 || b > 69 || c > 26 {
		t.Errorf("%d moves, %d with experts on two nodes, %d in groups", a, b, c)
	}
	for name, n := range paths {
		if found[name] > n+1 {
			t.Errorf("%s: %d moves, along paths %d", name, found[name], n)
		}
	}
}

// moved is how many slots of now hold an expert that their GPU did not; GPUs had, and
// have, so many slots each.
func moved(was, now []int, had, have int) int {
	n := 0
	for i, e := range now {
		g := i / have
		if !slices.Contains(was[g*had:(g+1)*had], e) {
			n++
		}
	}
	return n
}
