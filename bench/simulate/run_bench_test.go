package simulate

import (
	"runtime"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
)

// peak is the published fleet at its peak.
func peak(seconds float64) Config {
	c := Default(ours())
	c.Plan = []PlanStep{{0, Fleet{29, 9}}}
	c.Seconds, c.Warm = seconds, seconds/12
	return c
}

// TestPeakMemory keeps the memory of a fortieth of that hour small.
func TestPeakMemory(t *testing.T) {
	long.Only(t)
	r, err := Run(peak(90), workload.Steady(1700, 1))
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d requests, %d in flight, %d MB", r.Requests, r.PeakInFlight, m.Sys>>20)
	if m.Sys > 2<<30 || r.PeakInFlight < 60_000 {
		t.Errorf("%d MB for %d in flight", m.Sys>>20, r.PeakInFlight)
	}
}

// BenchmarkPeakHour is one simulated hour of the published fleet at its peak, on
// one core: 29 prefill and 9 decode units.
//
//	go test -run '^$' -bench PeakHour -benchtime 1x ./bench/simulate
func BenchmarkPeakHour(b *testing.B) {
	bench(b, func() Source { return workload.Steady(1700, 1) }, 3600)
}

// BenchmarkMillion is one million requests of a trace, with prefixes, on the same
// fleet: conversations that are played as often side by side as the rate needs.
//
//	go test -run '^$' -bench Million -benchtime 1x ./bench/simulate
func BenchmarkMillion(b *testing.B) {
	talks := workload.Conversations(20_000, 1)
	bench(b, func() Source { return NewReplay(talks, 1700) }, 1e6/1700)
}

func bench(b *testing.B, source func() Source, seconds float64) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for b.Loop() {
		r, err := Run(peak(seconds), source())
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
