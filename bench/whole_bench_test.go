package bench

import (
	"runtime"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// BenchmarkTrafficWhole plans all layers of DeepSeek-V3 on 4 nodes of 8 GPUs from
// 10^5 tokens a layer whose experts are known, on one core, and reports the nodes that
// a token visits, how many times those under the plan without routes that is, and the
// memory taken from the system.
func BenchmarkTrafficWhole(b *testing.B) {
	m := placement.DeepSeekV3()
	routes := workload.Routes(m, 1e5, 1)
	p := eplb.Problem{Loads: routes.Loads(m.Experts), Replicas: 288, Topology: placement.PrefillUnit(), Routes: routes}
	var r eplb.Result
	for b.Loop() {
		var err error
		if r, err = eplb.Plan(b.Context(), p, eplb.Options{Workers: 1}); err != nil {
			b.Fatal(err)
		}
	}
	nodes, even, most := 0.0, 0.0, 0.0
	for l, y := range r.Layers {
		nodes += y.NodesPerToken / float64(len(r.Layers))
		even += r.Traffic.Even[l].Nodes / float64(len(r.Layers))
		most = max(most, y.Imbalance)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	b.ReportMetric(nodes, "nodes/token")
	b.ReportMetric(nodes/even, "x-without-routes")
	b.ReportMetric(most, "max/mean")
	b.ReportMetric(float64(memory.Sys)/(1<<20), "MiB")
}
