// Command gpu-failure loses a GPU of DeepSeek-V3's prefill unit and gets it back:
// every expert stays available, few weights are copied, and the load is even over
// the GPUs that are left.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/placement"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

const failed = 5

func run(w io.Writer) error {
	model := placement.DeepSeekV3()
	unit := placement.PrefillUnit()
	loads := workload.Experts(model, 1) // of a real unit: track.Tracker
	problem := eplb.Problem{Loads: loads, Replicas: 288, Topology: unit}

	before, err := eplb.Plan(context.Background(), problem, eplb.Options{})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d GPUs, %d layers, %d experts in %d slots a layer\n", unit.GPUs, model.Layers, model.Experts, problem.Replicas)
	report(w, "in service", before)

	// The GPU fails: speed 0. Experts that lived nowhere else must come back from
	// outside, all others stay where they are unless a move pays.
	speed := make([]float64, unit.GPUs)
	for g := range speed {
		speed[g] = 1
	}
	speed[failed] = 0
	problem.Topology.Speed = speed
	problem.Previous = &before.Placement
	after, err := eplb.Plan(context.Background(), problem, eplb.Options{})
	if err != nil {
		return err
	}
	report(w, fmt.Sprintf("GPU %d fails", failed), after)
	if err := copies(w, &before.Placement, &after.Placement, problem.Topology, model); err != nil {
		return err
	}

	// What the weakest answer would have been: every layer planned anew.
	problem.Previous = nil
	anew, err := eplb.Plan(context.Background(), problem, eplb.Options{})
	if err != nil {
		return err
	}
	moves, err := before.Placement.CountMoves(&anew.Placement)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "  planned anew it would be %d moves for %.4f\n", sum(moves), imbalance(anew))

	// It is back, empty.
	problem.Topology.Speed = nil
	problem.Previous = &after.Placement
	back, err := eplb.Plan(context.Background(), problem, eplb.Options{})
	if err != nil {
		return err
	}
	report(w, fmt.Sprintf("GPU %d is back", failed), back)
	return copies(w, &after.Placement, &back.Placement, problem.Topology, model)
}

func report(w io.Writer, what string, r eplb.Result) {
	moves := make([]int, len(r.Layers))
	for i, l := range r.Layers {
		moves[i] = l.Moves
	}
	fmt.Fprintf(w, "%-14s imbalance %.4f over the GPUs in service, %d moves\n", what+":", imbalance(r), sum(moves))
}

// copies says in which order the weights are copied.
func copies(w io.Writer, from, to *placement.Placement, unit placement.Topology, model placement.Model) error {
	s, err := schedule.New(from, to, unit, schedule.Options{ExpertBytes: model.ExpertBytes(), PerGPU: 4, RDMAPerGPU: 1})
	if err != nil {
		return err
	}
	restored := 0
	for _, r := range s.Rounds[:s.Restore] {
		for _, m := range r.Moves {
			if m.From < 0 && m.Expert >= 0 {
				restored++
			}
		}
	}
	if restored > 0 {
		fmt.Fprintf(w, "  %d experts that had no other copy are back after %d rounds\n", restored, s.Restore)
	}
	fmt.Fprintf(w, "  all %d copies take %d rounds, %.2f s\n", s.Moves, len(s.Rounds), s.Seconds)
	return nil
}

func imbalance(r eplb.Result) float64 {
	sum := 0.0
	for _, l := range r.Layers {
		sum += l.Imbalance
	}
	return sum / float64(len(r.Layers))
}

func sum(counts []int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}
