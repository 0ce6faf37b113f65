package problem

import (
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
)

// exampleFields is the built-in example: the published prefill unit.
func exampleFields() Fields {
	m, t := placement.DeepSeekV3(), placement.PrefillUnit()
	return Fields{version: 1, Loads: []placement.Loads{workload.Experts(m, 1)}, replicas: m.Experts + 32, groups: m.Groups, nodes: t.Nodes, gpus: t.GPUs, maxMoves: -1}
}

// driftFields is the built-in replay: the published prefill unit's shape, any
// expert anywhere.
func driftFields() Fields {
	const windows = 24
	m, t := placement.DeepSeekV3(), placement.PrefillUnit()
	return Fields{version: 1, Loads: workload.Drift(m, windows, 1<<20, 1), replicas: m.Experts + 32, groups: 1, nodes: t.Nodes, gpus: t.GPUs, maxMoves: -1}
}

// routedFields is DeepSeek-V2-Lite on four nodes of two GPUs, with tokens.
func routedFields() Fields {
	m := placement.DeepSeekV2Lite()
	r := workload.Routes(m, 1024, 1)
	return Fields{version: 1, Loads: []placement.Loads{r.Loads(m.Experts)}, routes: r, replicas: m.Experts + 8, nodes: 4, gpus: 8, maxMoves: -1}
}
