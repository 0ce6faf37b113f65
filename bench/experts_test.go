package bench

import (
	"fmt"
	"testing"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// unit is a unit of GPUs, its slots a layer and the model's groups.
type unit struct {
	name             string
	replicas, groups int
	topology         placement.Topology
}

// The units that were published for DeepSeek-V3, one of 64 GPUs with 5 slots
// each, and one for DeepSeek-V2-Lite, which has no groups.
var (
	prefill = unit{"32", 288, 8, placement.PrefillUnit()}
	decode  = unit{"144", 288, 8, placement.DecodeUnit()}
	ep64    = unit{"64", 320, 8, placement.H800(8)}
	small   = unit{"8", 72, 1, placement.H800(1)}
)

// loads are named loads.
type loads struct {
	name string
	rows placement.Loads
}

func (u unit) problem(l loads) eplb.Problem {
	return eplb.Problem{Loads: l.rows, Replicas: u.replicas, Groups: u.groups, Topology: u.topology}
}

// generated is the loads that are always there: 58 layers of 256 experts.
func generated() []loads {
	return []loads{
		{"r1", workload.Experts(placement.DeepSeekV3(), 1)},
		{"zipf0.8", workload.Zipf(58, 256, .8, 1e6, 1)},
		{"zipf1.2", workload.Zipf(58, 256, 1.2, 1e6, 1)},
	}
}

// measured is the loads of 64 experts: generated ones for DeepSeek-V2-Lite, and
// where the data is at hand the measured windows, all 48 x 26 layers at once.
func measured(tb testing.TB) []loads {
	out := []loads{{"lite", workload.Experts(placement.DeepSeekV2Lite(), 1)}}
	dir, err := workload.DataDir()
	if err != nil {
		return out
	}
	domains, err := workload.ESFT(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var rows placement.Loads
	for _, d := range domains {
		for _, w := range d.Windows {
			rows = append(rows, w...)
		}
	}
	return append(out, loads{"esft", rows})
}

// imbalances scores every layer of p anew, whatever its planner says.
func imbalances(tb testing.TB, p *placement.Placement, rows placement.Loads) []float64 {
	tb.Helper()
	scores, err := p.ScoreLayers(rows, placement.Topology{})
	if err != nil {
		tb.Fatal(err)
	}
	out := make([]float64, len(scores))
	for l, s := range scores {
		out[l] = s.Imbalance
	}
	return out
}

func meanWorst(x []float64) (mean, worst float64) {
	for _, v := range x {
		mean += v / float64(len(x))
		worst = max(worst, v)
	}
	return mean, worst
}

// quality is how good a plan is: imbalance, mean and worst over the layers, and
// the mean gap to the lower bounds in percent.
type quality struct{ mean, worst, gap float64 }

// qualityOf scores a plan. With dispatch split the imbalance is what the plan
// says, because it is that of the best split.
func qualityOf(tb testing.TB, r *eplb.Result, p eplb.Problem, o eplb.Options) quality {
	tb.Helper()
	x := imbalances(tb, &r.Placement, p.Loads)
	q := quality{}
	for l := range x {
		if o.Dispatch == eplb.Split {
			x[l] = r.Layers[l].Imbalance
		}
		q.gap += 100 * (x[l]/r.Layers[l].LowerBound - 1) / float64(len(x))
	}
	q.mean, q.worst = meanWorst(x)
	return q
}

// plan is what a policy made of some loads.
type plan struct {
	name string
	placement.Placement
}

// TestNoPolicyBeatsOptimal holds every layer of every load against every policy
// that other systems run, the published one among them: none may be better than
// optimal, nor below the bound it proves.
func TestNoPolicyBeatsOptimal(t *testing.T) {
	const rounding = 1 + 1e-9
	check := func(u unit, l loads, locality eplb.Locality, others []plan) {
		t.Run(fmt.Sprintf("loads=%s/gpus=%s/locality=%v", l.name, u.name, locality), func(t *testing.T) {
			best, err := eplb.Plan(t.Context(), u.problem(l), eplb.Options{Locality: locality})
			if err != nil {
				t.Fatal(err)
			}
			ours := imbalances(t, &best.Placement, l.rows)
			for _, other := range others {
				for i, theirs := range imbalances(t, &other.Placement, l.rows) {
					if ours[i] > theirs*rounding {
						t.Errorf("layer %d: optimal %v, %s %v", i, ours[i], other.name, theirs)
					}
					if bound := best.Layers[i].LowerBound; theirs*rounding < bound {
						t.Errorf("layer %d: %s %v is below the proved bound %v", i, other.name, theirs, bound)
					}
				}
			}
		})
	}
	deepseek := func(u unit, l loads) []plan {
		r, err := eplb.Plan(t.Context(), u.problem(l), eplb.Options{Policy: eplb.DeepSeek})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Layers) == 0 {
			return nil
		}
		return []plan{{"deepseek", r.Placement}}
	}
	flat := func(u unit) unit {
		u.groups, u.topology = 1, placement.Topology{GPUs: u.topology.GPUs}
		return u
	}
	for _, u := range []unit{prefill, decode, ep64, small} {
		ls := generated()
		if u.name == small.name {
			ls = measured(t)
		}
		for _, l := range ls {
			if !long.Tests() {
				l.rows = l.rows[:8]
			}
			others := deepseek(flat(u), l)
			for _, policy := range baseline.ExpertPolicies() {
				others = append(others, plan{policy.Name, policy.Plan(l.rows, u.replicas, u.topology.GPUs)})
			}
			check(u, l, eplb.Free, others)
			if u.name != small.name && u.groups%u.topology.Nodes == 0 {
				check(u, l, eplb.ByGroup, deepseek(u, l))
			}
		}
	}
}
