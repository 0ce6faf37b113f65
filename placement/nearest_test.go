package placement

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestScoreNearestByHand(t *testing.T) {
	for _, c := range []struct {
		name  string
		gpus  int
		row   []int
		loads []float64
		want  []float64
	}{
		// Expert 0 on GPUs 0 and 1, 1 on 2, 2 on 3: node 1's half of expert 0 is spread over both.
		{"a node without it", 4, []int{0, 0, 1, 2}, []float64{8, 4, 4}, []float64{4, 4, 4, 4}},
		{"its own, and the first on the node", 4, []int{0, 1, 0, 2, 0, 3, 4, 5}, []float64{8, 0, 0, 0, 0, 0}, []float64{2, 2, 4, 0}},
		{"first on the node", 8, []int{1, 0, 2, 0, 3, 4, 5, 6}, []float64{8, 0, 0, 0, 0, 0, 0}, []float64{0, 5, 0, 3, 0, 0, 0, 0}},
		{"twice on a GPU", 4, []int{0, 0, 1, 2, 3, 4, 5, 6}, []float64{8, 0, 0, 0, 0, 0, 0}, []float64{8, 0, 0, 0}},
	} {
		p := Placement{Experts: len(c.loads), GPUs: c.gpus, PhysicalToLogical: [][]int{c.row}}
		s, err := p.ScoreNearest(Loads{c.loads}, Topology{GPUs: c.gpus, Nodes: 2})
		if err != nil || !slices.Equal(s[0].GPULoads, c.want) {
			t.Errorf("%s: %v %v, want %v", c.name, s, err, c.want)
		}
	}
}

// TestScoreNearestSourceBySource follows what every GPU sends.
func TestScoreNearestSourceBySource(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 8))
		nodes := []int{3, 1, 4}[:1+rng.IntN(3)]
		top := Topology{NodeGPUs: nodes}
		for _, n := range nodes {
			top.GPUs += n
		}
		top.Speed = make([]float64, top.GPUs)
		for g := range top.Speed {
			top.Speed[g] = float64(rng.IntN(5))
		}
		top.Speed[rng.IntN(top.GPUs)] = 1
		const experts, each = 5, 3
		p := Placement{Experts: experts, GPUs: top.GPUs, PhysicalToLogical: [][]int{make([]int, each*top.GPUs)}}
		for s := range p.PhysicalToLogical[0] {
			p.PhysicalToLogical[0][s] = rng.IntN(experts+1) - 1
		}
		loads := Loads{make([]float64, experts)}
		for e := range loads[0] {
			loads[0][e] = rng.Float64()
		}
		want := make([]float64, top.GPUs)
		for e, x := range loads[0] {
			var at []int
			for s, f := range p.PhysicalToLogical[0] {
				if g := s / each; f == e && top.Speed[g] > 0 && !slices.Contains(at, g) {
					at = append(at, g)
				}
			}
			for from := range top.GPUs {
				if top.Speed[from] == 0 {
					continue
				}
				to := at
				near := slices.DeleteFunc(slices.Clone(at), func(g int) bool { return top.Node(g) != top.Node(from) })
				if slices.Contains(at, from) {
					to = []int{from}
				} else if len(near) > 0 {
					to = near[:1]
				}
				for _, g := range to {
					want[g] += x / float64(top.InService()) / float64(len(to))
				}
			}
		}
		s, err := p.ScoreNearest(loads, top)
		if err != nil {
			t.Fatal(err)
		}
		for g := range want {
			if math.Abs(s[0].GPULoads[g]-want[g]) > 1e-12 {
				t.Fatalf("seed %d: %v, want %v", seed, s[0].GPULoads, want)
			}
		}
		if len(s[0].Missing) == 0 && math.Abs(s[0].Imbalance-Imbalance(want, top.Speed)) > 1e-9 {
			t.Errorf("seed %d: imbalance %v, want %v", seed, s[0].Imbalance, Imbalance(want, top.Speed))
		}
	}
}
