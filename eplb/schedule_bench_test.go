package eplb_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// replan plans Zipf loads before and after they drift by a lognormal of the
// given spread, each anew.
func replan(tb testing.TB, t placement.Topology, drift float64) (prev, next placement.Placement) {
	tb.Helper()
	m := placement.DeepSeekV3()
	loads := workload.Zipf(m.Layers, m.Experts, .8, 1e6, 1)
	plan := func() placement.Placement {
		r, err := eplb.Plan(context.Background(), eplb.Problem{Loads: loads, Replicas: 288, Topology: t}, eplb.Options{Locality: eplb.Free})
		if err != nil {
			tb.Fatal(err)
		}
		return r.Placement
	}
	prev = plan()
	rng := rand.New(rand.NewPCG(2, 0))
	for _, row := range loads {
		for e := range row {
			row[e] = math.Round(row[e] * math.Exp(drift*rng.NormFloat64()))
		}
	}
	return prev, plan()
}

// fewMoves makes a next placement that differs from prev by swaps and by
// replicas that become copies of another expert, moves a layer in all.
func fewMoves(prev *placement.Placement, moves int) placement.Placement {
	next := prev.Clone()
	rng := rand.New(rand.NewPCG(3, 0))
	first := prev.FirstSlots()
	count := prev.LogicalCount()
	for l, row := range next.PhysicalToLogical {
		done := map[int]bool{}
		for n := 0; n < moves; {
			i, j := rng.IntN(len(row)), rng.IntN(len(row))
			if done[i] || done[j] || row[i] == row[j] {
				continue
			}
			holds := func(slot, e int) bool {
				for g := range prev.GPUs {
					if slot >= first[g] && slot < first[g+1] {
						for _, x := range row[first[g]:first[g+1]] {
							if x == e {
								return true
							}
						}
					}
				}
				return false
			}
			switch {
			case holds(i, row[j]):
			case count[l][row[i]] > 1 && rng.IntN(3) == 0:
				count[l][row[i]]--
				count[l][row[j]]++
				row[i] = row[j]
				done[i] = true
				n++
			case !holds(j, row[i]) && n+2 <= moves:
				row[i], row[j] = row[j], row[i]
				done[i], done[j] = true, true
				n += 2
			}
		}
	}
	return next
}

// BenchmarkSchedule schedules changes of DeepSeek-V3's placement on the
// published units: full re-plans after a drift of 0.3, and changes of few moves.
// It reports rounds and the proved bound on them, predicted seconds and bound.
func BenchmarkSchedule(b *testing.B) {
	m := placement.DeepSeekV3()
	for _, u := range []struct {
		name string
		t    placement.Topology
	}{{"32", placement.PrefillUnit()}, {"144", placement.DecodeUnit()}} {
		prev, full := replan(b, u.t, .3)
		for _, c := range []struct {
			name string
			next placement.Placement
		}{{"full", full}, {"18", fewMoves(&prev, 18)}, {"6", fewMoves(&prev, 6)}} {
			for _, perGPU := range []int{1, 2, 4} {
				b.Run(fmt.Sprintf("moves=%s/gpus=%s/pergpu=%d", c.name, u.name, perGPU), func(b *testing.B) {
					b.ReportAllocs()
					var s eplb.Schedule
					for b.Loop() {
						var err error
						s, err = eplb.NewSchedule(&prev, &c.next, u.t, eplb.ScheduleOptions{ExpertBytes: m.ExpertBytes(), PerGPU: perGPU})
						if err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(s.Moves)/float64(m.Layers), "moves/layer")
					b.ReportMetric(float64(len(s.Rounds)), "rounds")
					b.ReportMetric(float64(s.RoundsBound), "rounds-bound")
					b.ReportMetric(s.Seconds, "seconds")
					b.ReportMetric(s.SecondsBound, "seconds-bound")
				})
			}
		}
	}
}
