package traffic

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func never() bool { return false }

// levels are those of the fullest GPU in each window.
func levels(y *Layer, slot []int32) (out []float64) {
	for k := range y.Share {
		out = append(out, y.At(slot).Top(k))
	}
	return out
}

// TestRegroupAgainstAll enumerates the placements of four to six experts on two or
// three nodes.
func TestRegroupAgainstAll(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		nodes := 2 + int(seed%2)
		u := unitOf([]int{0, 3, 6, 8}[:nodes+1], []int{0, 1, 2}[:nodes], []float64{1, 1, 1}[:nodes], nodes)
		experts := []int{4, 6}[seed%2]
		y, slot := testLayer(rng, u, experts, 1, 2, 30)
		y.PerExpert = seed%5 > 2
		level := levels(y, slot)[0]
		y.Even[0], y.Most[0] = level*1.05, level*1.05
		best := math.Inf(1)
		var all func(at []int32)
		all = func(at []int32) {
			if i := len(at); i < u.Slots() {
				g := 0
				for i >= u.First[g+1] {
					g++
				}
				for e := range int32(experts) { // ascending within a GPU
					if i == u.First[g] || at[i-1] < e {
						all(append(at, e))
					}
				}
				return
			}
			for e := range int32(experts) {
				if !slices.Contains(at, e) {
					return
				}
			}
			if levels(y, at)[0] > y.Most[0] {
				return
			}
			_, total, _, _ := naive(u, y, at)
			best = min(best, float64(total))
		}
		all(make([]int32, 0, u.Slots()))
		Regroup(y, slot, never)
		if _, total, _, _ := naive(u, y, slot); float64(total) != best {
			t.Errorf("seed %d: tokens visit %d nodes, at best %v", seed, total, best)
		}
	}
}

func TestRegroupKeepsWhatItMust(t *testing.T) {
	better := 0
	for seed := range uint64(24) {
		rng := rand.New(rand.NewPCG(seed, 4))
		u := testUnit(rng, 3+rng.IntN(5))
		experts := u.Slots() / 2
		y, slot := testLayer(rng, u, experts, 1+rng.IntN(2), 2, 200)
		y.Nearest = rng.IntN(2) == 1
		for k, x := range levels(y, slot) {
			y.Even[k], y.Most[k] = x*1.01, x*1.03
		}
		y.Moves = rng.IntN(12)
		y.inForce(slot)
		y.Home, y.MostOff = make([]int32, experts), 0
		for e := range y.Home {
			y.Home[e] = int32(rng.IntN(u.Nodes))
		}
		_, before, _, off := naive(u, y, slot)
		y.MostOff = off
		twice := func(slot []int32) int {
			n := 0
			for e := range int32(experts) {
				blocks := map[int]bool{}
				for i, f := range slot {
					if f == e {
						g := 0
						for i >= u.First[g+1] {
							g++
						}
						blocks[u.Node[g]] = true
					}
				}
				if len(blocks) > 1 {
					n++
				}
			}
			return n
		}
		apart := twice(slot)
		if seed%2 == 0 {
			y.Domain = u.Node
		}
		Regroup(y, slot, never)
		_, after, moves, away := naive(u, y, slot)
		if after > before || moves > y.Moves || away > y.MostOff {
			t.Errorf("seed %d: nodes %d before %d, moves %d of %d, away %d of %d", seed, after, before, moves, y.Moves, away, y.MostOff)
		}
		if after < before {
			better++
		}
		if y.Domain != nil && twice(slot) < apart {
			t.Errorf("seed %d: %d experts on two nodes, %d before", seed, twice(slot), apart)
		}
		for k, x := range levels(y, slot) {
			if x > y.Most[k]*(1+1e-9) {
				t.Errorf("seed %d: window %d at %v, at most %v is allowed", seed, k, x, y.Most[k])
			}
		}
		for e := range int32(experts) {
			if !slices.Contains(slot, e) {
				t.Errorf("seed %d: expert %d is gone", seed, e)
			}
		}
	}
	if better < 12 {
		t.Errorf("fewer nodes in %d of 24 layers", better)
	}
}

// TestEvenOutAgainstAll enumerates the placements of five experts on three GPUs.
func TestEvenOutAgainstAll(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 6))
		u := unitOf([]int{0, 3, 5, 8}, []int{0, 0, 1}, []float64{1, 1, 1}, 2)
		const experts = 5
		y, slot := testLayer(rng, u, experts, 1+int(seed%2), 2, 1)
		y.Nearest = seed/2%2 == 1
		mean := func(at []int32) float64 {
			sum := 0.0
			for _, x := range levels(y, at) {
				sum += x / float64(len(y.Share))
			}
			return sum
		}
		best := math.Inf(1)
		var all func(at []int32)
		all = func(at []int32) {
			if i := len(at); i < u.Slots() {
				g := 0
				for i >= u.First[g+1] {
					g++
				}
				for e := range int32(experts) {
					if i == u.First[g] || at[i-1] < e {
						all(append(at, e))
					}
				}
				return
			}
			for e := range int32(experts) {
				if !slices.Contains(at, e) {
					return
				}
			}
			best = min(best, mean(at))
		}
		all(make([]int32, 0, u.Slots()))
		EvenOut(y, slot, 0, never)
		if x := mean(slot); x > best*(1+1e-9) {
			t.Errorf("seed %d: level %v, at best %v", seed, x, best)
		}
	}
}

// TestEvenOutMovesFew: with an aim, it is reached with fewer moves than without.
func TestEvenOutMovesFew(t *testing.T) {
	few, many := 0, 0
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 7))
		u := unitOf([]int{0, 6, 12, 18, 24}, []int{0, 0, 1, 1}, []float64{1, 1, 1, 1}, 2)
		y, slot := testLayer(rng, u, 16, 1, 2, 1)
		y.Nearest = true
		best := slices.Clone(slot)
		EvenOut(y, best, 0, never)
		y.Moves = 100
		y.inForce(slot)
		_, _, moves, _ := naive(u, y, best)
		many += moves
		aim := levels(y, best)[0] * 1.05
		at := slices.Clone(slot)
		EvenOut(y, at, aim, never)
		_, _, moves, _ = naive(u, y, at)
		if x := levels(y, at)[0]; x > aim {
			t.Errorf("seed %d: level %v above the aim %v", seed, x, aim)
		}
		few += moves
		limited := slices.Clone(slot)
		y.Moves = 3
		EvenOut(y, limited, aim, never)
		if _, _, moves, _ = naive(u, y, limited); moves > 3 || levels(y, limited)[0] > levels(y, slot)[0] {
			t.Errorf("seed %d: %d moves of 3 to %v from %v", seed, moves, levels(y, limited)[0], levels(y, slot)[0])
		}
	}
	if few*9 > many*5 {
		t.Errorf("%d moves to within 5%%, %d from scratch", few, many)
	}
}
