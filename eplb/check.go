package eplb

// check is a valid problem as the parts of planning are told it.
func check(p *Problem, o *Options) *checked {
	return &checked{
		loads: p.Loads, windows: p.Windows, previous: p.Previous, topology: p.Topology, replicas: p.Replicas, groups: p.Groups,
		unit:    newUnit(&p.Topology, p.Replicas, p.Loads.Experts(), nil),
		byGroup: o.Locality == ByGroup, off: o.OffNodeReplicas, twoNodes: o.TwoNodes, split: o.Dispatch == Split,
		tolerance: max(o.Tolerance, 0), target: o.Target, restarts: o.Restarts,
	}
}
