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
	bench(b, peak(3600), func() Source { return workload.Steady(1700, 1) })
}

// BenchmarkMillion is one million requests of a trace that is played as often side by
// side as the rate needs: of a chat service on units that carry it, and conversations
// about documents, with prefixes, of which many more come than the published fleet
// carries.
//
//	go test -run '^$' -bench Million -benchtime 1x ./bench/simulate
func BenchmarkMillion(b *testing.B) {
	b.Run("chat", func(b *testing.B) {
		const rate = 1600
		chat := workload.Chat(20_000, 1)
		c := peak(1e6 / rate)
		c.Plan[0].Fleet = Fleet{16, 3}
		bench(b, c, func() Source { return workload.NewReplay(chat, rate) })
	})
	b.Run("documents", func(b *testing.B) {
		const rate = 1700
		talks := workload.Conversations(20_000, 1)
		bench(b, peak(1e6/rate), func() Source { return workload.NewReplay(talks, rate) })
	})
}

func bench(b *testing.B, c Config, source func() Source) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for b.Loop() {
		r, err := Run(c, source())
		if err != nil {
			b.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.Sys)/1e6, "MB")
		b.ReportMetric(float64(r.PeakInFlight), "in-flight")
		b.ReportMetric(float64(r.Requests), "requests")
		b.ReportMetric(r.Served, "served")
		b.ReportMetric(float64(r.DecodeSteps+r.PrefillSteps), "steps")
	}
}
