package eplb

import (
	"github.com/moelb/moelb/eplb/internal/deepseek"
)

// planDeepSeek plans by the published algorithm.
func planDeepSeek(p *Problem, o *Options) Result {
	layers, r := len(p.Loads), newResult(p, o)
	to := &r.Placement
	to.ReplicaRank = rows[int](layers, p.Replicas)
	inParallel(o.Workers, layers, func() func(l int) {
		d := deepseek.New(p.Loads.Experts(), p.Replicas, p.Groups, p.Topology.Nodes, p.Topology.GPUs)
		return func(l int) {
			imbalance, bound := d.Plan(p.Loads[l], to.PhysicalToLogical[l], to.ReplicaRank[l])
			r.Layers[l] = newLayer(imbalance, bound, 0, false)
		}
	})
	return r
}
