package eplb

import (
	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/deepseek"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
)

// planDeepSeek plans by the published algorithm. The bound leaves the groups aside.
func planDeepSeek(p *Problem, o *Options) Result {
	layers, experts, r := len(p.Loads), p.Loads.Experts(), newResult(p, o)
	to := &r.Placement
	to.ReplicaRank = rows[int](layers, p.Replicas)
	u := problem.NewUnit(&p.Topology, p.Replicas, experts)
	inParallel(o.Workers, layers, func() func(l int) {
		d := deepseek.New(experts, p.Replicas, p.Groups, p.Topology.Nodes, p.Topology.GPUs)
		s := pack.New(u, experts)
		return func(l int) {
			imbalance, bound := d.Plan(p.Loads[l], to.PhysicalToLogical[l], to.ReplicaRank[l]), 1.0
			s.SetLoads(p.Loads[l])
			if b := bounds.Even(s); b > 1 { // loads too small to be scaled prove nothing
				bound = min(b, imbalance)
			}
			r.Layers[l] = newLayer(imbalance, bound, 0, false)
		}
	})
	return r
}
