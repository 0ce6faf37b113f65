package system

import (
	"testing"
	"time"

	"github.com/moelb/moelb/bench/workload"
)

// builtIn is the built-in traffic at any rate.
func builtIn() Traffic {
	return Traffic{Name: "built-in", New: func(rate float64) Source { return workload.Steady(rate, 1) }}
}

func TestCompare(t *testing.T) {
	began := time.Now()
	c := Default(Policy{})
	c.Seconds, c.Warm = 240, 120
	if testing.Short() {
		c.Seconds, c.Warm = 60, 30
	}
	s, err := Compare(c, builtIn(), StudyOptions{Load: .85, Prices: PublishedPrices()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v %+v rate %.1f in %.0f out %.0f hit %.3f", time.Since(began), s.Fleet, s.Rate, s.MeanInput, s.MeanOutput, s.HitRate)
	for _, r := range s.Rows {
		t.Logf("%-18s %-40s P %.1f D %.1f req/s; %.0f nodes $%.3f; %.0f tok/s ttft %.2f %.2f tpot %.1f %.1f ms idle %.2f; pairs %.2f tok %.2f kv %.3f n %.3f e %.3f %.3f", r.Label, r.Policy, r.PrefillCapacity, r.DecodeCapacity, r.NodesPerThousand, r.USDPerMillion, r.TokensPerSecond, r.TTFT50, r.TTFT99, 1e3*r.TPOT50, 1e3*r.TPOT99, r.Idle, r.PairsImbalance, r.TokensImbalance, r.KVImbalance, r.RequestsImbalance, r.PrefillExperts, r.DecodeExperts)
	}
	on := s.Rows[0]
	for _, r := range s.Rows[1:5] {
		if r.USDPerMillion <= on.USDPerMillion {
			t.Errorf("%s costs $%.3f a million tokens, all on $%.3f", r.Label, r.USDPerMillion, on.USDPerMillion)
		}
		if r.USDPerMillion > s.Rows[4].USDPerMillion {
			t.Errorf("%s costs more than all off", r.Label)
		}
	}
}
