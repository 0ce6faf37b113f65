package bench

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// BenchmarkTrafficWhole plans all layers of DeepSeek-V3 from 10^5 tokens a layer whose
// experts are known, on one core: on 4 nodes of 8 GPUs, on 8 trays of 4 that share
// NVLink, and on 18 nodes of 8 whose kernels send a copy for each expert. It reports the
// nodes and the GPUs that a token visits and the copies that leave its node, each beside
// what it is under the plan without routes, and the memory taken from the system.
func BenchmarkTrafficWhole(b *testing.B) {
	m := placement.DeepSeekV3()
	for _, u := range []struct {
		gpus, nodes int
		copies      eplb.Copies
	}{{32, 4, eplb.PerNode}, {32, 8, eplb.PerNode}, {144, 18, eplb.PerExpert}} {
		b.Run(fmt.Sprintf("gpus=%d/nodes=%d", u.gpus, u.nodes), func(b *testing.B) {
			routes := workload.Routes(m, 1e5, 1)
			p := eplb.Problem{Loads: routes.Loads(m.Experts), Replicas: 288, Topology: placement.Topology{GPUs: u.gpus, Nodes: u.nodes}, Routes: routes}
			var r eplb.Result
			for b.Loop() {
				var err error
				if r, err = eplb.Plan(b.Context(), p, eplb.Options{Workers: 1, Copies: u.copies}); err != nil {
					b.Fatal(err)
				}
			}
			for name, v := range map[string]eplb.Visited{"": eplb.MeanVisited(r.Traffic.Plan), "-without": eplb.MeanVisited(r.Traffic.Even)} {
				b.ReportMetric(v.Nodes, "nodes"+name)
				if u.gpus <= 64 {
					b.ReportMetric(v.GPUs, "gpus"+name)
				}
				b.ReportMetric(v.Sent[u.copies], "copies"+name)
			}
			most := 0.0
			for _, y := range r.Layers {
				most = max(most, y.Imbalance)
			}
			b.ReportMetric(most, "max/mean")
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			b.ReportMetric(float64(memory.Sys)/(1<<20), "MiB")
		})
	}
}
