package simulate

import (
	"strings"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/long"
)

// builtIn is the built-in traffic at any rate.
func builtIn() Traffic {
	return Traffic{Name: "built-in", New: func(rate float64) Source { return workload.Steady(rate, 1) }}
}

func TestCompare(t *testing.T) {
	long.Only(t)
	c := Default(Policy{})
	c.Seconds, c.Warm = 120, 60
	s, err := Compare(c, builtIn(), StudyOptions{Load: .85, Prices: PublishedPrices()})
	if err != nil {
		t.Fatal(err)
	}
	on := s.Rows[0]
	for _, r := range s.Rows[5:] {
		if by := r.USDPerMillion / on.USDPerMillion; strings.HasPrefix(r.Label, "prefill by") && by < 1.1 || by < .99 {
			t.Errorf("%s: $%.3f a million tokens, all on $%.3f", r.Label, r.USDPerMillion, on.USDPerMillion)
		}
	}
	for _, r := range s.Rows[1:5] {
		if r.USDPerMillion <= on.USDPerMillion {
			t.Errorf("%s costs $%.3f a million tokens, all on $%.3f", r.Label, r.USDPerMillion, on.USDPerMillion)
		}
		if r.USDPerMillion > s.Rows[4].USDPerMillion {
			t.Errorf("%s costs more than all off", r.Label)
		}
	}
}
