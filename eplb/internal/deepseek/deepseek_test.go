package deepseek_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// drawDeepSeek is a random problem: kind chooses the loads, most of which tie.
func drawDeepSeek(r *rand.Rand, kind uint8) eplb.Problem {
	nodes, local := 1+r.IntN(6), 1+r.IntN(8)
	groups := nodes * (1 + r.IntN(4))
	experts := groups * (1 + r.IntN(24))
	if r.IntN(8) == 0 {
		experts = groups * (1 + r.IntN(300))
	}
	if r.IntN(4) == 0 {
		groups = 1 + r.IntN(12)
	}
	gpus := nodes * local
	if groups%nodes == 0 {
		experts = (experts + groups - 1) / groups * groups
	}
	each := (experts + gpus - 1) / gpus
	if r.IntN(4) > 0 {
		each += r.IntN(1 + 8)
	}
	loads := placement.NewLoads(1+r.IntN(2), experts)
	for _, row := range loads {
		for e := range row {
			row[e] = drawLoad(r, kind)
		}
		if kind%8 == 7 {
			clear(row)
			row[r.IntN(experts)] = 5
		}
	}
	return eplb.Problem{Loads: loads, Replicas: each * gpus, Groups: groups, Topology: placement.Topology{GPUs: gpus, Nodes: nodes}}
}

func drawLoad(r *rand.Rand, kind uint8) float64 {
	switch kind % 8 {
	case 0:
		return float64(r.IntN(2))
	case 1:
		return float64(r.IntN(6))
	case 2:
		return math.Trunc(math.Exp(3 * r.NormFloat64()))
	case 3: // float32 rounds them, and ties
		return float64(1<<26 + r.IntN(40))
	case 4:
		return math.Exp(r.NormFloat64())
	case 5: // float32 holds them as 0, as a subnormal number, as infinity
		return []float64{0, math.Copysign(0, -1), 1e-60, 1e-44, 3e-44, 1e-38, 1, 3e38, 1e39, 1e200}[r.IntN(10)]
	case 6:
		return 0.1
	}
	return 0
}

func checkAgainstDumb(t *testing.T, p eplb.Problem) {
	t.Helper()
	r, err := eplb.Plan(context.Background(), p, eplb.Options{Policy: eplb.DeepSeek})
	if err != nil {
		t.Fatal(err)
	}
	for l, loads := range p.Loads {
		expert, rank := dumbDeepSeek(loads, p.Replicas, p.Groups, p.Topology.Nodes, p.Topology.GPUs)
		if !slices.Equal(expert, r.Placement.PhysicalToLogical[l]) {
			t.Fatalf("layer %d: experts by slot\n%v, want\n%v", l, r.Placement.PhysicalToLogical[l], expert)
		}
		if !slices.Equal(rank, r.Placement.ReplicaRank[l]) {
			t.Fatalf("layer %d: replica ranks by slot\n%v, want\n%v", l, r.Placement.ReplicaRank[l], rank)
		}
	}
}

func TestDeepSeekAgainstDumb(t *testing.T) {
	seeds := uint64(4000)
	if !long.Tests() {
		seeds = 500
	}
	for seed := range seeds {
		p := drawDeepSeek(rand.New(rand.NewPCG(seed, 1)), uint8(seed))
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { checkAgainstDumb(t, p) })
		if t.Failed() {
			return
		}
	}
}

func FuzzDeepSeek(f *testing.F) {
	f.Add(uint64(1), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, kind uint8) {
		checkAgainstDumb(t, drawDeepSeek(rand.New(rand.NewPCG(seed, 2)), kind))
	})
}
