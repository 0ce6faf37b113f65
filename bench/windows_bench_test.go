package bench

import (
	"fmt"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/track"
	"github.com/moelb/moelb/placement"
)

// BenchmarkWindows plans every four windows, jointly and on their sum. Beside
// the time a layer it reports the mean over layers and windows of the GPUs'
// max/mean: over the windows planned and over the four that follow each.
func BenchmarkWindows(b *testing.B) {
	for _, d := range drifts(b) {
		for _, f := range []track.Forecast{{Past: span}, {Past: span, Joint: true}} {
			b.Run(fmt.Sprintf("loads=%s/gpus=8/joint=%v", d.name, f.Joint), func(b *testing.B) {
				b.ReportAllocs()
				problems, next := d.problems(b, f)
				plans := make([]eplb.Result, len(problems))
				layers := 0
				for b.Loop() {
					for i, p := range problems {
						r, err := eplb.Plan(b.Context(), p, eplb.Options{Workers: 1})
						if err != nil {
							b.Fatal(err)
						}
						plans[i] = r
						layers += len(r.Layers)
					}
				}
				b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(layers), "ms/layer")
				made, after := 0.0, 0.0
				for i, r := range plans {
					for _, l := range r.Layers {
						made += l.Imbalance / float64(len(r.Layers)*len(plans))
					}
					after += over(b, &r.Placement, next[i]) / float64(len(plans))
				}
				b.ReportMetric(made, "planned-max/mean")
				b.ReportMetric(after, "next-max/mean")
			})
		}
	}
	big := workload.Alternate(workload.Domains(placement.DeepSeekV3(), 2, 2, 1<<14, 1))
	for _, u := range []unit{prefill, decode} {
		b.Run(fmt.Sprintf("loads=v3/mix=alternating/gpus=%s/joint=true", u.name), func(b *testing.B) {
			b.ReportAllocs()
			p := eplb.Problem{Windows: big, Replicas: u.replicas, Topology: u.topology}
			var r eplb.Result
			layers := 0
			for b.Loop() {
				var err error
				if r, err = eplb.Plan(b.Context(), p, eplb.Options{Workers: 1, Locality: eplb.Free}); err != nil {
					b.Fatal(err)
				}
				layers += len(r.Layers)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(layers), "ms/layer")
			made := 0.0
			for _, l := range r.Layers {
				made += l.Imbalance / float64(len(r.Layers))
			}
			b.ReportMetric(made, "planned-max/mean")
		})
	}
}

// BenchmarkForecasts scores ways to forecast the next window by the imbalance
// they cause on it.
func BenchmarkForecasts(b *testing.B) {
	for _, d := range drifts(b) {
		for _, f := range []struct {
			name string
			track.Forecast
		}{
			{"last", track.Forecast{}},
			{"sum4", track.Forecast{Past: 4}},
			{"sum8", track.Forecast{Past: 8}},
			{"decayed1", track.Forecast{Past: 16, HalfLife: 1}},
			{"decayed4", track.Forecast{Past: 16, HalfLife: 4}},
			{"joint2", track.Forecast{Past: 2, Joint: true}},
			{"joint4", track.Forecast{Past: 4, Joint: true}},
			{"joint8", track.Forecast{Past: 8, Joint: true}},
		} {
			b.Run(fmt.Sprintf("loads=%s/gpus=8/forecast=%s", d.name, f.name), func(b *testing.B) {
				p := eplb.Problem{Replicas: small.replicas, Topology: small.topology}
				mean, n := 0.0, 0
				for b.Loop() {
					mean, n = 0, 0
					for _, windows := range d.seqs {
						scores, err := track.Backtest(b.Context(), p, eplb.Options{}, f.Forecast, windows)
						if err != nil {
							b.Fatal(err)
						}
						for _, x := range scores[7:] { // from where the longest past is full
							mean += x
							n++
						}
					}
				}
				b.ReportMetric(mean/float64(n), "next-max/mean")
			})
		}
	}
}
