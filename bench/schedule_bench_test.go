package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/placement"
)

// replan plans Zipf loads on u, and anew after they have drifted by a lognormal
// of the given spread and so many of the last GPUs have died.
func replan(tb testing.TB, u unit, drift float64, dead int) (prev, next placement.Placement, t placement.Topology) {
	tb.Helper()
	rows := workload.Zipf(58, 256, .8, 1e6, 1)
	t = u.topology
	plan := func() placement.Placement {
		r, err := eplb.Plan(tb.Context(), eplb.Problem{Loads: rows, Replicas: u.replicas, Topology: t}, eplb.Options{Locality: eplb.Free})
		if err != nil {
			tb.Fatal(err)
		}
		return r.Placement
	}
	prev = plan()
	rng := rand.New(rand.NewPCG(2, 0))
	for _, row := range rows {
		for e := range row {
			row[e] = math.Round(row[e] * math.Exp(drift*rng.NormFloat64()))
		}
	}
	if dead > 0 {
		t.Speed = slices.Repeat([]float64{1}, t.GPUs)
		clear(t.Speed[t.GPUs-dead:])
	}
	return prev, plan(), t
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
// published units: full re-plans after a drift of 0.3, alone and with a GPU that
// died, and changes of few moves. It reports moves a layer, rounds and predicted
// seconds, each of the two beside its proved bound.
func BenchmarkSchedule(b *testing.B) {
	m := placement.DeepSeekV3()
	for _, u := range []unit{prefill, decode} {
		prev, full, all := replan(b, u, .3, 0)
		_, repair, alive := replan(b, u, .3, 1)
		for _, c := range []struct {
			name string
			next placement.Placement
			t    placement.Topology
		}{
			{"full", full, all}, {"dead", repair, alive}, {"18", fewMoves(&prev, 18), all}, {"6", fewMoves(&prev, 6), all},
		} {
			for _, per := range []struct{ gpu, rdma int }{{1, 1}, {4, 4}, {4, 3}, {4, 1}} {
				b.Run(fmt.Sprintf("change=%s/gpus=%s/pergpu=%d/rdma=%d", c.name, u.name, per.gpu, per.rdma), func(b *testing.B) {
					b.ReportAllocs()
					var s schedule.Schedule
					for b.Loop() {
						var err error
						s, err = schedule.New(&prev, &c.next, c.t, schedule.Options{ExpertBytes: m.ExpertBytes(), PerGPU: per.gpu, RDMAPerGPU: per.rdma})
						if err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(s.Moves)/float64(m.Layers), "moves/layer")
					b.ReportMetric(float64(len(s.Rounds)), "rounds")
					b.ReportMetric(float64(s.RoundsBound), "rounds-bound")
					b.ReportMetric(s.Seconds, "seconds")
					b.ReportMetric(s.SecondsBound, "seconds-bound")
					b.ReportMetric(float64(s.Restore), "restore-rounds")
				})
			}
		}
	}
}
