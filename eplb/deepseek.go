package eplb

import (
	"github.com/moelb/moelb/eplb/internal/deepseek"
	"github.com/moelb/moelb/placement"
)

// planDeepSeek plans by the published algorithm.
func planDeepSeek(p *Problem, o *Options) Result {
	layers, slots := len(p.Loads), p.Replicas
	r := Result{
		Placement: placement.Placement{Experts: p.Loads.Experts(), GPUs: p.Topology.GPUs},
		Layers:    make([]Layer, layers),
	}
	cells := make([]int, 2*layers*slots)
	rows := make([][]int, 2*layers)
	for i := range rows {
		rows[i] = cells[i*slots : (i+1)*slots : (i+1)*slots]
	}
	r.Placement.PhysicalToLogical, r.Placement.ReplicaRank = rows[:layers:layers], rows[layers:]
	inParallel(o.Workers, layers, func() func(l int) {
		d := deepseek.New(p.Loads.Experts(), slots, p.Groups, p.Topology.Nodes, p.Topology.GPUs)
		return func(l int) {
			imbalance, bound := d.Plan(p.Loads[l], rows[l], rows[layers+l])
			r.Layers[l] = newLayer(imbalance, bound, 0, false)
		}
	})
	return r
}
