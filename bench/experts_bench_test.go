package bench

import (
	"fmt"
	"testing"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// BenchmarkExperts plans every load on every unit with every policy. Beside
// time and allocations it reports the mean over the layers of the GPUs' max/mean,
// how far that mean and the worst layer lie above 1, and the mean gap to the
// proved lower bound, in percent.
func BenchmarkExperts(b *testing.B) {
	ep72 := unit{"72", 288, 8, placement.H800(9)}
	ep96 := unit{"96", 288, 8, placement.H800(12)}
	free := eplb.Options{Locality: eplb.Free}
	split := eplb.Options{Locality: eplb.Free, Dispatch: eplb.Split}
	for _, c := range []struct {
		unit    unit
		options eplb.Options
		loads   []loads
	}{
		{prefill, eplb.Options{Policy: eplb.DeepSeek}, generated()},
		{prefill, free, generated()},
		{prefill, split, generated()},
		{prefill, eplb.Options{Locality: eplb.ByGroup}, generated()},
		{prefill, eplb.Options{Locality: eplb.ByGroup, OffNodeReplicas: 8}, generated()},
		{prefill, eplb.Options{Locality: eplb.ByGroup, OffNodeReplicas: 16}, generated()},
		{decode, eplb.Options{Policy: eplb.DeepSeek}, generated()},
		{decode, free, generated()},
		{decode, split, generated()},
		{ep64, eplb.Options{Policy: eplb.DeepSeek}, generated()},
		{ep64, free, generated()},
		{ep72, free, generated()},
		{ep96, free, generated()},
		{small, eplb.Options{Policy: eplb.DeepSeek}, measured(b)},
		{small, free, measured(b)},
		{small, split, measured(b)},
	} {
		for _, l := range c.loads {
			b.Run(fmt.Sprintf("policy=%s/loads=%s/gpus=%s", policyName(c.options), l.name, c.unit.name), func(b *testing.B) {
				b.ReportAllocs()
				p := c.unit.problem(l)
				o := c.options
				o.Workers = 1
				var r eplb.Result
				for b.Loop() {
					var err error
					if r, err = eplb.Plan(b.Context(), p, o); err != nil {
						b.Fatal(err)
					}
				}
				q := qualityOf(b, &r, p, o)
				report(b, q.mean, q.worst)
				b.ReportMetric(q.gap, "gap%")
			})
		}
	}
	for _, u := range []unit{prefill, decode, small} {
		ls := generated()
		if u.name == small.name {
			ls = measured(b)
		}
		for _, policy := range baseline.ExpertPolicies() {
			for _, l := range ls {
				b.Run(fmt.Sprintf("policy=%s/loads=%s/gpus=%s", policy.Name, l.name, u.name), func(b *testing.B) {
					b.ReportAllocs()
					var p placement.Placement
					for b.Loop() {
						p = policy.Plan(l.rows, u.replicas, u.topology.GPUs)
					}
					mean, worst := meanWorst(imbalances(b, &p, l.rows))
					report(b, mean, worst)
				})
			}
		}
	}
}

// report prints the mean and the worst imbalance, and how far they lie above 1
// in percent: benchmarks print four digits, too few for 1.0002.
func report(b *testing.B, mean, worst float64) {
	b.ReportMetric(mean, "max/mean")
	b.ReportMetric(100*(mean-1), "over%")
	b.ReportMetric(100*(worst-1), "worst-over%")
}

// policyName is "optimal", with what differs from the plain plan.
func policyName(o eplb.Options) string {
	s := o.Policy.String()
	if o.Dispatch == eplb.Split {
		s += "/dispatch=split"
	}
	if o.Locality == eplb.ByGroup {
		s += fmt.Sprintf("/locality=groups/offnode=%d", o.OffNodeReplicas)
	}
	return s
}
