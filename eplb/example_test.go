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
