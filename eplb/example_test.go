package eplb_test

import (
	"context"
	"fmt"
	"log"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// The README shows this program; a test in bench keeps the two alike.
func Example() {
	// Tokens routed to each of six experts, in one layer.
	loads := placement.Loads{{90, 40, 30, 20, 10, 10}}

	plan, err := eplb.Plan(context.Background(), eplb.Problem{
		Loads:    loads,
		Replicas: 8, // two slots on each GPU
		Topology: placement.Topology{GPUs: 4},
	}, eplb.Options{})
	if err != nil {
		log.Fatal(err)
	}

	layer := plan.Layers[0]
	fmt.Printf("imbalance %.3f, proved bound %.3f: %v\n", layer.Imbalance, layer.LowerBound, layer.Status)
	fmt.Println("replicas of each expert:", plan.Placement.LogicalCount()[0])
	fmt.Println("expert in each slot:    ", plan.Placement.PhysicalToLogical[0])
	// Output:
	// imbalance 1.000, proved bound 1.000: optimal
	// replicas of each expert: [2 1 1 1 2 1]
	// expert in each slot:     [0 4 0 4 1 5 2 3]
}

// The load has drifted: of the placement in force as few experts move as bring
// each layer within 5% of even.
func ExamplePlan_previous() {
	previous := placement.Placement{Experts: 6, GPUs: 4, PhysicalToLogical: [][]int{{0, 4, 0, 4, 1, 5, 2, 3}}}
	plan, err := eplb.Plan(context.Background(), eplb.Problem{
		Loads:    placement.Loads{{40, 90, 30, 20, 10, 10}},
		Replicas: 8,
		Topology: placement.Topology{GPUs: 4},
		Previous: &previous,
	}, eplb.Options{Target: 1.05})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("imbalance %.2f after %d moves\n", plan.Layers[0].Imbalance, plan.Layers[0].Moves)
	// Output:
	// imbalance 1.00 after 2 moves
}

// Mornings one expert is hot, evenings another: one plan for both.
func ExamplePlan_windows() {
	plan, err := eplb.Plan(context.Background(), eplb.Problem{
		Windows:  []placement.Loads{{{90, 10, 30, 30}}, {{10, 90, 30, 30}}},
		Replicas: 6,
		Topology: placement.Topology{GPUs: 2},
	}, eplb.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("imbalance over both %.2f, replicas %v\n", plan.Layers[0].Imbalance, plan.Placement.LogicalCount()[0])
	// Output:
	// imbalance over both 1.00, replicas [2 2 1 1]
}

// A GPU fails: it is out of service (speed 0), and every expert has a live
// replica again.
func ExamplePlan_failure() {
	previous := placement.Placement{Experts: 4, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, 2, 3, 0, 2}}}
	plan, err := eplb.Plan(context.Background(), eplb.Problem{
		Loads:    placement.Loads{{40, 30, 20, 10}},
		Replicas: 6,
		Topology: placement.Topology{GPUs: 3, Speed: []float64{1, 0, 1}},
		Previous: &previous,
	}, eplb.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("on the failed GPU:", plan.Placement.PhysicalToLogical[0][2:4])
	fmt.Println("missing without it:", plan.Placement.Missing(0, []float64{1, 0, 1}))
	// Output:
	// on the failed GPU: [-1 -1]
	// missing without it: []
}
