package system

import (
	"runtime"
	"testing"

	"github.com/moelb/moelb/bench/workload"
)

// BenchmarkPeakHour is one simulated hour of the published fleet at its peak, on
// one core: 29 prefill and 9 decode units.
//
//	go test -run '^$' -bench PeakHour -benchtime 1x ./bench/cluster/system
func BenchmarkPeakHour(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for b.Loop() {
		c := Default(ours())
		c.Plan = []PlanStep{{0, Fleet{29, 9}}}
		c.Seconds, c.Warm = 3600, 300
		r, err := Run(c, workload.Steady(1700, 1))
		if err != nil {
			b.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.Sys)/1e6, "MB")
		b.ReportMetric(float64(r.PeakInFlight), "in-flight")
		b.ReportMetric(float64(r.Requests), "requests")
		b.ReportMetric(float64(r.DecodeSteps+r.PrefillSteps), "steps")
	}
}
