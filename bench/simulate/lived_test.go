package simulate

import (
	"math"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

// TestPublishedPeak: the published peak fleet serves the mean demand of the day, on
// prompts that spread much all but a little of it, and that of its own peak hour but
// for a little; a request is as fast as published.
func TestPublishedPeak(t *testing.T) {
	long.Only(t)
	least := map[float64]float64{.9: 1, 1.25: .95} // of the mean demand
	for _, spread := range []float64{.9, 1.25} {
		s, d, err := newSizing(PublishedSystem(), PublishedTraffic(spread, 1), Aim{1, 1e5, 1e5, .5})
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range []float64{1, 1.327} {
			x := LivedHour{Fleet: Fleet{29, 9}, Rate: publishedOutput / 86400 * share / d.output}
			if err := s.live(&x); err != nil {
				t.Fatal(err)
			}
			t.Logf("spread %v, %.2f of the mean demand: %.1f%% served, %.1f tokens/s a request", spread, share, 100*x.Carries, 1/x.PerToken)
			if x.Carries < .9 || share == 1 && x.Carries < least[spread] || 1/x.PerToken < .9*20/share || 1/x.PerToken > 30 {
				t.Errorf("spread %v, %.2f of the mean demand: %.1f%% served, %.1f tokens/s a request", spread, share, 100*x.Carries, 1/x.PerToken)
			}
		}
	}
}

// TestPublishedDayLived: the three rates of the published day come out within a
// tenth, with nothing fitted to them.
func TestPublishedDayLived(t *testing.T) {
	long.Only(t)
	prefill, decode, _ := PublishedRates()
	for _, spread := range []float64{1.25} {
		c := PublishedSystem()
		c.Seconds, c.Warm = 40, 15
		d, err := Live(c, PublishedTraffic(spread, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("spread %v: %.0f and %.0f tokens/s a node, %.1f a request, %.1f%% hits, %.0f KV", spread, d.PrefillPerNode, d.DecodePerNode, d.PerRequest, 100*d.HitRate, d.MeanKV)
		if math.Abs(d.PrefillPerNode/prefill-1) > .1 || math.Abs(d.DecodePerNode/decode-1) > .1 || d.PerRequest < .9*20 || d.PerRequest > 1.1*22 {
			t.Errorf("spread %v: %.0f and %.0f tokens/s a node, %.1f a request", spread, d.PrefillPerNode, d.DecodePerNode, d.PerRequest)
		}
		if math.Abs(d.HitRate/.5625-1) > .02 || math.Abs(d.MeanKV/publishedKV-1) > .03 {
			t.Errorf("spread %v: %.3f hits, %.0f tokens of KV", spread, d.HitRate, d.MeanKV)
		}
	}
}
