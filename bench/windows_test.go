package bench

import (
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/track"
	"github.com/moelb/moelb/placement"
)

// span is how many windows a plan is made from, and how many it is then scored on.
const span = 4

// drift is sequences of windows of 64 experts.
type drift struct {
	name string
	seqs [][]placement.Loads
}

// drifts is each domain by itself, and all of them by turns: of generated
// windows, and where the data is at hand of the measured ones.
func drifts(tb testing.TB) []drift {
	of := func(name string, domains []workload.Domain) []drift {
		within := drift{name: name + "/mix=one"}
		for _, d := range domains {
			within.seqs = append(within.seqs, d.Windows)
		}
		return []drift{within, {name + "/mix=alternating", [][]placement.Loads{workload.Alternate(domains)}}}
	}
	out := of("lite", workload.Domains(placement.DeepSeekV2Lite(), 3, 16, 512, 1))
	dir, err := workload.DataDir()
	if err != nil {
		return out
	}
	domains, err := workload.ESFT(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return append(out, of("esft", domains)...)
}

// problems is the planning problems of every span windows of d, forecast by f,
// and the windows that follow each.
func (d drift) problems(tb testing.TB, f track.Forecast) (problems []eplb.Problem, next [][]placement.Loads) {
	tb.Helper()
	for _, windows := range d.seqs {
		for i := span; i+span <= len(windows); i += span {
			p := eplb.Problem{Replicas: small.replicas, Topology: small.topology}
			if err := f.Set(&p, windows[:i]); err != nil {
				tb.Fatal(err)
			}
			problems, next = append(problems, p), append(next, windows[i:i+span])
		}
	}
	return problems, next
}

// over is the mean imbalance of all layers of a plan over windows.
func over(tb testing.TB, p *placement.Placement, windows []placement.Loads) float64 {
	sum := 0.0
	for _, w := range windows {
		mean, _ := meanWorst(imbalances(tb, p, w))
		sum += mean / float64(len(windows))
	}
	return sum
}

// forecast plans the problems of d and returns the mean imbalance over the
// windows that the plans were made from, as they say, and over those that follow.
func (d drift) forecast(tb testing.TB, f track.Forecast) (past, next float64) {
	tb.Helper()
	problems, after := d.problems(tb, f)
	for i, p := range problems {
		r, err := eplb.Plan(tb.Context(), p, eplb.Options{})
		if err != nil {
			tb.Fatal(err)
		}
		for _, l := range r.Layers {
			past += l.Imbalance / float64(len(r.Layers)*len(problems))
		}
		next += over(tb, &r.Placement, after[i]) / float64(len(problems))
	}
	return past, next
}

// TestNextWindows demands that plans over the last four windows keep the next
// four as even as promised, and how much better than plans on their sum.
func TestNextWindows(t *testing.T) {
	want := map[string]struct{ next, gain float64 }{
		"lite/mix=one":         {1.13, -.003},
		"lite/mix=alternating": {1.20, .20},
		"esft/mix=one":         {1.09, 0},
		"esft/mix=alternating": {1.11, .20},
	}
	all := drifts(t)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			past, next := d.forecast(t, track.Forecast{Past: span, Joint: true})
			_, sum := d.forecast(t, track.Forecast{Past: span})
			t.Logf("next windows %.4f (%.4f where it was made), %.4f planned on the sum", next, past, sum)
			if w := want[d.name]; next > w.next || next > sum-w.gain {
				t.Errorf("next windows %.4f, planned on the sum %.4f; want %.3f and a gain of %.2f", next, sum, w.next, w.gain)
			}
		})
	}
	if len(all) < len(want) {
		t.Skip("no measured data: only generated windows were planned")
	}
}

// TestBacktest holds the library's own scoring of forecasts against this one.
func TestBacktest(t *testing.T) {
	windows := workload.Domains(placement.DeepSeekV2Lite(), 1, 5, 512, 3)[0].Windows
	for _, f := range []track.Forecast{{}, {Past: 3}, {Past: 9, HalfLife: 1.5}, {Past: 2, Joint: true}} {
		p := eplb.Problem{Replicas: small.replicas, Topology: small.topology}
		got, err := track.Backtest(t.Context(), p, eplb.Options{}, f, windows)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(windows)-1 {
			t.Fatalf("%+v: %d scores for %d windows", f, len(got), len(windows))
		}
		for i := 1; i < len(windows); i++ {
			if err := f.Set(&p, windows[:i]); err != nil {
				t.Fatal(err)
			}
			r, err := eplb.Plan(t.Context(), p, eplb.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if want := over(t, &r.Placement, windows[i:i+1]); !near(got[i-1], want) {
				t.Errorf("%+v, window %d: %v, want %v", f, i, got[i-1], want)
			}
		}
	}
}

func near(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }
