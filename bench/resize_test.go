package bench

import (
	"fmt"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// leastMoves is the fewest moves that lead from p to any complete placement on
// so many GPUs of each slots that leaves none empty: an expert of which no
// remaining GPU has a copy must come, and so must something into every new slot.
// With an expert at most once on a GPU both are flows of one unit a slot.
func leastMoves(p *placement.Placement, gpus, each int) int {
	n := 0
	for _, row := range p.PhysicalToLogical {
		left := make([]bool, p.Experts)
		lost := p.Experts
		for s, e := range row {
			if s/each < gpus && !left[e] {
				left[e] = true
				lost--
			}
		}
		n += max(lost, each*(gpus-p.GPUs))
	}
	return n
}

// resizes are a prefill unit that grows from 32 to 40 GPUs, or shrinks, to within 1%
// of the best or 5% of even, and how many times the moves that it must make it may.
var resizes = []struct {
	from, to int // nodes
	target   float64
	most     float64
}{{4, 5, 0, 1.1}, {4, 5, 1.05, 1.01}, {5, 4, 0, 1.1}, {5, 4, 1.05, 1.05}}

// resized changes a unit's size: by how many times the moves that it must make, and
// how many times the rounds that these need.
func resized(tb testing.TB, m placement.Model, loads placement.Loads, from, to int, target float64) (moves, rounds float64) {
	a, b := placement.H800(from), placement.H800(to)
	before, err := eplb.Plan(tb.Context(), eplb.Problem{Loads: loads, Replicas: 9 * a.GPUs, Topology: a}, eplb.Options{Locality: eplb.Free})
	if err != nil {
		tb.Fatal(err)
	}
	after, err := eplb.Plan(tb.Context(), eplb.Problem{Loads: loads, Replicas: 9 * b.GPUs, Topology: b, Previous: &before.Placement}, eplb.Options{Locality: eplb.Free, Target: target})
	if err != nil {
		tb.Fatal(err)
	}
	made := 0
	for _, l := range after.Layers {
		made += l.Moves
	}
	s, err := schedule.New(&before.Placement, &after.Placement, b.Extend(a.GPUs), schedule.Options{ExpertBytes: m.ExpertBytes(), PerGPU: 4, RDMAPerGPU: 1})
	if err != nil {
		tb.Fatal(err)
	}
	if s.Moves != made {
		tb.Errorf("%d to %d nodes: %d copies for %d moves", from, to, s.Moves, made)
	}
	least := leastMoves(&before.Placement, b.GPUs, 9)
	moves, rounds = float64(made)/float64(least), float64(len(s.Rounds))/float64(s.RoundsBound)
	tb.Logf("%d to %d GPUs, target %v: %d moves, at least %d: %.3f; %d rounds, at least %d: %.3f", a.GPUs, b.GPUs, target, made, least, moves, len(s.Rounds), s.RoundsBound, rounds)
	return moves, rounds
}

// TestResize holds a few layers, whose moves scatter by a few percent, to nearly what
// BenchmarkResize holds all of a model's. Of fewer the two or three rounds that any
// schedule ends with are more than 1.15 times the least.
func TestResize(t *testing.T) {
	m := placement.DeepSeekV3()
	m.Layers = 6
	if long.Tests() {
		m.Layers = 12
	}
	for _, loads := range []placement.Loads{workload.Zipf(m.Layers, 256, .8, 1e6, 1), workload.Experts(m, 2)} {
		for _, c := range resizes {
			if x, y := resized(t, m, loads, c.from, c.to, c.target); x > c.most+.04 || y > 1.15 {
				t.Errorf("%d to %d nodes, target %v: %.3f times the moves, %.3f times the rounds", c.from, c.to, c.target, x, y)
			}
		}
	}
}

// BenchmarkResize is of 58 layers: it takes minutes, and fails above the bounds.
func BenchmarkResize(b *testing.B) {
	m := placement.DeepSeekV3()
	for i, loads := range []placement.Loads{workload.Zipf(m.Layers, 256, .8, 1e6, 1), workload.Experts(m, 2)} {
		for _, c := range resizes {
			b.Run(fmt.Sprintf("%s/%dto%d/target=%v", []string{"zipf", "model"}[i], 8*c.from, 8*c.to, c.target), func(b *testing.B) {
				for range b.N {
					x, y := resized(b, m, loads, c.from, c.to, c.target)
					b.ReportMetric(x, "moves/least")
					b.ReportMetric(y, "rounds/least")
					if x > c.most || y > 1.15 {
						b.Errorf("%.3f times the moves, %.3f times the rounds", x, y)
					}
				}
			})
		}
	}
}

// Short schedules take at most 1.15 times the rounds that any must.
func TestShortSchedules(t *testing.T) {
	m := placement.DeepSeekV3()
	for _, u := range []unit{prefill, decode} {
		loads := workload.Zipf(58, 256, .8, 1e6, 1)
		r, err := eplb.Plan(t.Context(), eplb.Problem{Loads: loads, Replicas: u.replicas, Topology: u.topology}, eplb.Options{Locality: eplb.Free})
		if err != nil {
			t.Fatal(err)
		}
		for _, moves := range []int{3, 6, 18} {
			next := fewMoves(&r.Placement, moves)
			for _, per := range [][2]int{{1, 1}, {4, 4}, {4, 1}} {
				for _, worth := range [][]float64{nil, slices.Repeat([]float64{1}, 58)} {
					s, err := schedule.New(&r.Placement, &next, u.topology, schedule.Options{ExpertBytes: m.ExpertBytes(), PerGPU: per[0], RDMAPerGPU: per[1], Worth: worth})
					if err != nil {
						t.Fatal(err)
					}
					if n, least := len(s.Rounds), s.RoundsBound; n > max(least+1, 23*least/20) {
						t.Errorf("%s, %d moves a layer, %v copies: %d rounds, at least %d", u.name, moves, per, n, least)
					}
				}
			}
		}
	}
}
