package split_test

import (
	"fmt"
	"log"

	"github.com/moelb/moelb/eplb/split"
	"github.com/moelb/moelb/placement"
)

// Expert 0 has a replica on each of two GPUs: of its tokens in this batch each
// gets what makes the fuller GPU least full.
func ExampleSplitter_Split() {
	p := placement.Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 0, 2}}}
	s, err := split.New(&p, placement.Topology{})
	if err != nil {
		log.Fatal(err)
	}
	quota := make([]int64, p.Slots())
	layer, err := s.Split(quota, 0, []int64{10, 4, 2})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("tokens of each slot %v, imbalance %.2f\n", quota, layer.Imbalance)
	// Output:
	// tokens of each slot [4 4 6 2], imbalance 1.00
}

// An engine that cannot split every batch anew gets the shares ahead.
func ExampleStaticWeights() {
	p := placement.Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 0, 2}}}
	weights, layers, err := split.StaticWeights(&p, placement.Topology{}, []placement.Loads{{{100, 40, 20}}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("shares %.2f, imbalance %.2f\n", weights[0], layers[0].Imbalance)
	// Output:
	// shares [0.40 1.00 0.60 1.00], imbalance 1.00
}

// An engine that sends all of a GPU's tokens of an expert to one replica gets a
// table: the slot for each GPU and expert.
func ExampleTable() {
	p := placement.Placement{Experts: 2, GPUs: 4, PhysicalToLogical: [][]int{{0, 1, 0, 1}}}
	tables, _, err := split.Table(&p, placement.Topology{GPUs: 4, Nodes: 2}, placement.Loads{{8, 8}})
	if err != nil {
		log.Fatal(err)
	}
	for gpu, slots := range tables[0] {
		fmt.Println("GPU", gpu, "sends experts 0 and 1 to slots", slots)
	}
	// Output:
	// GPU 0 sends experts 0 and 1 to slots [0 1]
	// GPU 1 sends experts 0 and 1 to slots [0 1]
	// GPU 2 sends experts 0 and 1 to slots [2 3]
	// GPU 3 sends experts 0 and 1 to slots [2 3]
}
