package schedule

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// Layers of different shapes are scheduled like any others: the end is the plan, no
// expert that a layer has is ever lost, and one that it lacks is never missed.
func TestLayersOfDifferentShapes(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 33))
		const layers, experts = 3, 10
		unit := placement.Topology{GPUs: 4, Nodes: 2, NVLink: 160e9, RDMA: 45e9}
		p := eplb.Problem{Replicas: 20, Topology: unit, LayerExperts: []int{10, 7, 10}, LayerReplicas: []int{20, 16, 17}}
		plan := func() *placement.Placement {
			p.Loads = placement.NewLoads(layers, experts)
			for l, row := range p.Loads {
				for e := range p.LayerExperts[l] {
					row[e] = float64(1 + rng.IntN(90))
				}
			}
			r, err := eplb.Plan(t.Context(), p, eplb.Options{Locality: eplb.Free})
			if err != nil {
				t.Fatal(err)
			}
			return &r.Placement
		}
		at := plan()
		if rng.IntN(2) == 0 {
			p.Topology.Speed = []float64{1, 1, 1, 1}
			p.Topology.Speed[rng.IntN(4)] = 0
		}
		p.LayerReplicas = []int{20, 16 + rng.IntN(5), 17}
		next := plan()
		o := Options{ExpertBytes: 1 << 20, PerGPU: 1 + rng.IntN(2)}
		s, err := New(at, next, p.Topology, o)
		if err == nil {
			err = execute(&s, at, next, p.Topology, o)
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(s.Dead) == 0 && s.Restore > 0 {
			t.Errorf("seed %d: %d rounds restore what is not lost", seed, s.Restore)
		}
		for k := range len(s.Rounds) + 1 {
			q, err := s.Apply(at, k)
			if err != nil || !slices.Equal(q.LayerExperts, p.LayerExperts) || k >= s.Restore && q.CheckComplete() != nil && s.Restore+len(s.Dead) == 0 {
				t.Fatalf("seed %d, %d rounds: %v, %v", seed, k, err, q.CheckComplete())
			}
			if k == len(s.Rounds) && !slices.EqualFunc(q.PhysicalToLogical, next.PhysicalToLogical, slices.Equal[[]int]) {
				t.Fatalf("seed %d: the end is %v, planned %v", seed, q.PhysicalToLogical, next.PhysicalToLogical)
			}
		}
		other := next.Clone()
		other.LayerExperts = nil
		if _, err := New(&other, next, p.Topology, o); err == nil {
			t.Error("placements of other layers accepted")
		}
	}
}
