// Command controller follows one unit of DeepSeek-V3 through growth, two failures
// of which the second comes in the middle of mending the first, recovery, and a
// change of traffic. It is the loop that an operator's controller runs: note what
// happened, plan from what is, schedule, decide, do some rounds; and whatever
// happens next, the same again.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"slices"

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

// controller is what is known of the unit.
type controller struct {
	out   io.Writer
	model placement.Model
	unit  placement.Topology
	loads placement.Loads     // of a real unit: track.Tracker
	at    placement.Placement // what is where now
	moved int                 // experts copied so far, for the metrics
}

func run(w io.Writer) error {
	c := &controller{out: w, model: placement.DeepSeekV3(), unit: placement.H800(4)}
	c.model.Layers = 6 // of 58: enough to see
	c.loads = workload.Experts(c.model, 1)
	c.at = placement.Trivial(c.model.Layers, c.model.Experts, 9*c.unit.GPUs, c.unit.GPUs)
	for _, event := range []struct {
		what   string
		happen func()
		rounds int // that are done before the next event; more than any schedule has = all
	}{
		{"first plan", func() {}, 1e6},
		{"a node joins", func() { c.unit = placement.H800(5) }, 1e6},
		{"GPU 5 dies", func() { c.speed(5, 0) }, 2},
		{"GPU 9 dies too", func() { c.speed(9, 0) }, 1e6},
		{"both are back", func() { c.speed(5, 1); c.speed(9, 1) }, 1e6},
		{"other traffic", func() { c.loads = workload.Experts(c.model, 2) }, 1e6},
	} {
		event.happen()
		if err := c.respond(event.what, event.rounds); err != nil {
			return err
		}
	}
	return nil
}

// speed notes that a GPU is in service or out of it. A dead GPU's memory is gone.
func (c *controller) speed(gpu int, v float64) {
	if c.unit.Speed == nil {
		c.unit.Speed = slices.Repeat([]float64{1}, c.unit.GPUs)
	}
	c.unit.Speed[gpu] = v
	first := c.at.FirstSlots()
	for _, row := range c.at.PhysicalToLogical {
		for s := first[gpu]; s < first[gpu+1]; s++ {
			row[s] = -1
		}
	}
}

// respond plans from what is, decides, and does so many rounds at most.
func (c *controller) respond(what string, rounds int) error {
	plan, err := eplb.Plan(context.Background(), eplb.Problem{Loads: c.loads, Replicas: 9 * c.unit.GPUs, Topology: c.unit, Previous: &c.at}, eplb.Options{Locality: eplb.Free})
	if err != nil {
		return err
	}
	s, err := schedule.New(&c.at, &plan.Placement, c.unit, schedule.Options{
		ExpertBytes: c.model.ExpertBytes(), PerGPU: 4, RDMAPerGPU: 1, StagedBytes: 6 * c.model.ExpertBytes(),
	})
	if err != nil {
		return err
	}
	// Weigh what is left once what must be done is done.
	k, err := s.Stakes(&c.at, &plan.Placement, []placement.Loads{c.loads}, c.unit, schedule.Stakes{StepSeconds: .0476, Sensitivity: schedule.DecodeSensitivity(), Horizon: 10_000})
	if err != nil {
		return err
	}
	d, err := schedule.Decide(&s, k)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s: %v\n", what, d)
	// What an engine does round by round: copy, then switch its tables. Between two
	// rounds the placement and the schedule can go to JSON, and a new controller on.
	todo := s.Prefix(d.Rounds)
	done := min(rounds, len(todo.Rounds))
	if c.at, err = todo.Apply(&c.at, done); err != nil {
		return err
	}
	for _, r := range todo.Rounds[:done] {
		c.moved += len(r.Moves)
	}
	return c.metrics(done, len(todo.Rounds), &s)
}

// metrics prints what a dashboard would show.
func (c *controller) metrics(done, of int, s *schedule.Schedule) error {
	scores, err := c.at.ScoreLayers(c.loads, c.unit)
	if err != nil {
		return err
	}
	most, missing := 0.0, 0
	for _, x := range scores {
		most, missing = math.Max(most, x.Imbalance), missing+len(x.Missing)
	}
	fmt.Fprintf(c.out, "  rounds %d/%d (restoring %d), GPUs in service %d, imbalance max %.3f, experts missing %d, slots rewritten %d, staged MB %d\n",
		done, of, s.Restore, c.unit.InService(), most, missing, c.moved, s.StagedBytes/1e6)
	return nil
}
