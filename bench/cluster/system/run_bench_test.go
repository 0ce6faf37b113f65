package system

import (
	"runtime"
	"testing"
	"time"

	"github.com/moelb/moelb/bench/workload"
)

// peak is the published fleet at its peak.
func peak(seconds float64) Config {
	c := Default(ours())
	c.Plan = []PlanStep{{0, Fleet{29, 9}}}
	c.Seconds, c.Warm = seconds, seconds/12
	return c
}

// TestPeakPace keeps a twentieth of that hour far from taking minutes, which it
// did where a full unit was asked for room at every step, and its memory small.
func TestPeakPace(t *testing.T) {
	if testing.Short() {
		t.Skip("short: it takes seconds, and much longer under the race detector")
	}
	start := time.Now()
	r, err := Run(peak(180), workload.Steady(1700, 1))
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d requests, %d in flight, %v, %d MB", r.Requests, r.PeakInFlight, time.Since(start).Round(time.Millisecond), m.Sys>>20)
	if d := time.Since(start); d > 30*time.Second || m.Sys > 2<<30 || r.PeakInFlight < 60_000 {
		t.Errorf("%v and %d MB for %d in flight", d, m.Sys>>20, r.PeakInFlight)
	}
}

// BenchmarkPeakHour is one simulated hour of the published fleet at its peak, on
// one core: 29 prefill and 9 decode units.
//
//	go test -run '^$' -bench PeakHour -benchtime 1x ./bench/cluster/system
func BenchmarkPeakHour(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for b.Loop() {
		r, err := Run(peak(3600), workload.Steady(1700, 1))
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
