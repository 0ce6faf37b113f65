package simulate

import (
	"math"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

// TestPublishedPeak: the published peak fleet serves the mean demand of the day, and
// that of its own peak hour but for a little, on prompts that spread as little as the
// published rates would have it and on some that spread more; a request is as fast as
// published. Prefill starts empty, and is measured only when the longest prompts,
// which take 20 seconds, are as many as they stay.
func TestPublishedPeak(t *testing.T) {
	long.Only(t)
	for _, spread := range []float64{.9, 1.25} {
		s, d, err := newSizing(PublishedSystem(), PublishedTraffic(spread, 1), Aim{1, 1e5, 1e5, .5})
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range []float64{1, 1.327} {
			x := LivedHour{Fleet: Fleet{29, 9}, Rate: publishedOutput / 86400 * share / d.output}
			phase := func(only phaseOnly, units, of int) Result {
				r, err := s.run(Fleet{units, units}, only, x.Rate*float64(units)/float64(of))
				if err != nil {
					t.Fatal(err)
				}
				return r.Result
			}
			x.Decode = phase(cfgDecode, 2, 9)
			brief := s.config
			s.config.Seconds, s.config.Warm = 200, 80
			x.Prefill = phase(cfgPrefill, 4, 29)
			s.config = brief
			served, speed := min(x.Prefill.Served, x.Decode.Served), 1/x.Decode.TPOT50
			t.Logf("spread %v, %.2f of the mean demand: %.1f%% served, %.1f tokens/s a request", spread, share, 100*served, speed)
			if served < .98 || share == 1 && served < .99 || speed < .9*20/share || speed > 30 {
				t.Errorf("spread %v, %.2f of the mean demand: %.1f%% served, %.1f tokens/s a request", spread, share, 100*served, speed)
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
