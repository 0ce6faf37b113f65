package placement_test

import (
	"encoding/json"
	"fmt"

	"github.com/moelb/moelb/placement"
)

// Four experts on two GPUs of three slots: the hottest has three replicas.
func Example() {
	p := placement.Placement{Experts: 4, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 0, 3, 0}}}
	loads, err := placement.LoadsOf([][]int{{90, 20, 15, 25}})
	if err != nil {
		fmt.Println(err)
		return
	}
	scores, err := p.ScoreLayers(loads, placement.Topology{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v imbalance %.4f\n", scores[0].GPULoads, scores[0].Imbalance)
	fmt.Println("an expert twice on one GPU:", p.Duplicates())
	text, _ := json.Marshal(p)
	fmt.Println(string(text))
	// Output:
	// [65 85] imbalance 1.1333
	// an expert twice on one GPU: 1
	// {"version":1,"num_experts":4,"num_gpus":2,"physical_to_logical_map":[[0,1,2,0,3,0]],"logical_to_physical_map":[[[0,3,5],[1,-1,-1],[2,-1,-1],[4,-1,-1]]],"logical_count":[[3,1,1,1]]}
}

// A GPU has failed: which experts are gone with it, and what the rest of the
// placement is worth over two windows.
func ExamplePlacement_Missing() {
	p := placement.Placement{Experts: 4, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, 2, 3, 0, 2}}}
	fmt.Println("missing without GPU 1:", p.Missing(0, []float64{1, 0, 1}))
	imbalance, err := p.ImbalanceOver([]placement.Loads{{{40, 10, 10, 20}}, {{10, 10, 40, 10}}}, placement.Topology{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("with all: %.3f\n", imbalance[0])
	// Output:
	// missing without GPU 1: [3]
	// with all: 1.200
}
