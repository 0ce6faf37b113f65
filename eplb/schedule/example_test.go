package schedule_test

import (
	"fmt"
	"log"

	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/placement"
)

// Two GPUs exchange experts 1 and 2, and a third takes a copy of expert 1, which
// needs a second round: it can be sent but once in the first.
func ExampleNew() {
	prev := placement.Placement{Experts: 4, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, 2, 3, 0, 3}}}
	next := placement.Placement{Experts: 4, GPUs: 3, PhysicalToLogical: [][]int{{0, 2, 1, 3, 1, 3}}}
	unit := placement.Topology{GPUs: 3, NVLink: 160e9, RDMA: 45e9}
	model := placement.DeepSeekV3()

	s, err := schedule.New(&prev, &next, unit, schedule.Options{ExpertBytes: model.ExpertBytes()})
	if err != nil {
		log.Fatal(err)
	}
	for i, r := range s.Rounds {
		fmt.Printf("round %d, %.3f ms:\n", i, 1e3*r.Seconds)
		for _, m := range r.Moves {
			fmt.Printf("  expert %d from slot %d to slot %d\n", m.Expert, m.From, m.To)
		}
	}
	fmt.Printf("%d copies in %d rounds, at least %d\n", s.Moves, len(s.Rounds), s.RoundsBound)
	// Output:
	// round 0, 0.275 ms:
	//   expert 2 from slot 2 to slot 1
	//   expert 1 from slot 1 to slot 4
	// round 1, 0.275 ms:
	//   expert 1 from slot 4 to slot 2
	// 3 copies in 2 rounds, at least 1
}

// A step of decode takes 50 ms and would lose a little less of it.
func ExampleDecide() {
	prev := placement.Placement{Experts: 4, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 3}}}
	next := placement.Placement{Experts: 4, GPUs: 2, PhysicalToLogical: [][]int{{0, 2, 1, 3}}}
	unit := placement.Topology{GPUs: 2, Nodes: 2, RDMA: 45e9}
	model := placement.DeepSeekV3()
	s, err := schedule.New(&prev, &next, unit, schedule.Options{ExpertBytes: model.ExpertBytes()})
	if err != nil {
		log.Fatal(err)
	}
	for _, horizon := range []float64{5, 1000} {
		d, err := schedule.Decide(&s, schedule.Stakes{
			StepSeconds: .05,
			Sensitivity: schedule.DecodeSensitivity(),
			Before:      []float64{1.02},
			After:       []float64{1.01},
			Horizon:     horizon,
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d)
	}
	// Output:
	// not worth moving: it would not pay within the horizon (1 of 1 rounds: 0.09165 ms a step gained for 0.9787 ms of stall, paid back after 10.68 steps of 5)
	// move 1 of 1 rounds: it pays (0.09165 ms a step gained for 0.9787 ms of stall, paid back after 10.68 steps of 1000)
}

// The controller restarts in the middle: what stands after the first round, and
// what the rest leads to.
func ExampleSchedule_Resume() {
	prev := placement.Placement{Experts: 4, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, 2, 3, 0, 3}}}
	next := placement.Placement{Experts: 4, GPUs: 3, PhysicalToLogical: [][]int{{0, 2, 1, 3, 1, 3}}}
	s, err := schedule.New(&prev, &next, placement.Topology{GPUs: 3}, schedule.Options{})
	if err != nil {
		log.Fatal(err)
	}
	then, err := s.Apply(&prev, 1)
	if err != nil {
		log.Fatal(err)
	}
	end, err := s.Resume(&then, 1, len(s.Rounds))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(then.PhysicalToLogical[0])
	fmt.Println(end.PhysicalToLogical[0])
	// Output:
	// [0 2 2 3 1 3]
	// [0 2 1 3 1 3]
}
