package bench

import (
	"fmt"
	"testing"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/bench/simulate/lockstep"
)

// BenchmarkPrefill runs the unit on every load with every policy: throughput as a
// fraction of ideal, the time to first token in seconds, how uneven tokens and
// pairs are over the ranks, and the most tokens of unfinished prompts on a rank.
// Policies that place on arrival see the ranks' state without delay, and, where
// their home has one, as late as there.
func BenchmarkPrefill(b *testing.B) {
	for _, l := range prefillLoads(b) {
		u := l.unit()
		run := func(name string, simulate func() *lockstep.PrefillResult) {
			b.Run(fmt.Sprintf("%v/policy=%s", l, name), func(b *testing.B) {
				var r *lockstep.PrefillResult
				for b.Loop() {
					r = simulate()
				}
				b.ReportMetric(r.Fraction, "ideal")
				b.ReportMetric(lockstep.Quantile(r.TTFT, .5), "ttft-p50")
				b.ReportMetric(lockstep.Quantile(r.TTFT, .99), "ttft-p99")
				b.ReportMetric(r.Tokens, "tokens-max/mean")
				b.ReportMetric(r.Pairs, "pairs-max/mean")
				b.ReportMetric(float64(r.PeakKV), "kv-peak")
			})
		}
		run("ours", func() *lockstep.PrefillResult { return form(b, &u) })
		run("ours-on-arrival", func() *lockstep.PrefillResult { return route(b, &u, onArrival{newPrefill(b, &u)}, 0) })
		for _, p := range baseline.PrefillPolicies() {
			run(p.Name, func() *lockstep.PrefillResult { return route(b, &u, p.New(u.Ranks), 0) })
			if p.Stale > 0 {
				run(p.Name+"/stale=home", func() *lockstep.PrefillResult { return route(b, &u, p.New(u.Ranks), p.Stale) })
			}
		}
	}
}
