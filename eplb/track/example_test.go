package track_test

import (
	"context"
	"fmt"
	"log"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/track"
	"github.com/moelb/moelb/placement"
)

// An engine counts tokens; every two samples close a window, and the next plan
// looks at the last two.
func Example() {
	t, err := track.New(1, 4, track.Options{Windows: 2, SamplesPerWindow: 2})
	if err != nil {
		log.Fatal(err)
	}
	for sample := range int64(4) {
		if err := t.Add([][]int64{{90, 10, 30 + sample, 30}}); err != nil {
			log.Fatal(err)
		}
	}
	windows := []placement.Loads{placement.NewLoads(1, 4), placement.NewLoads(1, 4)}
	n, err := t.Windows(windows)
	if err != nil {
		log.Fatal(err)
	}
	problem := eplb.Problem{Replicas: 6, Topology: placement.Topology{GPUs: 2}}
	if err := (track.Forecast{Past: 2, Joint: true}).Set(&problem, windows[:n]); err != nil {
		log.Fatal(err)
	}
	plan, err := eplb.Plan(context.Background(), problem, eplb.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the last window:", windows[1][0])
	fmt.Printf("imbalance over both: %.2f\n", plan.Layers[0].Imbalance)
	// Output:
	// the last window: [180 20 65 60]
	// imbalance over both: 1.01
}

// Which forecast would have kept the next window most even?
func ExampleBacktest() {
	var windows []placement.Loads
	for w := range 8 { // one expert is hot in every other window
		windows = append(windows, placement.Loads{{60, 20, 20, 20}})
		if w%2 == 1 {
			windows[w] = placement.Loads{{20, 60, 20, 20}}
		}
	}
	problem := eplb.Problem{Replicas: 8, Topology: placement.Topology{GPUs: 4}}
	for _, f := range []track.Forecast{{Past: 1}, {Past: 2, Joint: true}} {
		imbalance, err := track.Backtest(context.Background(), problem, eplb.Options{}, f, windows)
		if err != nil {
			log.Fatal(err)
		}
		sum := 0.0
		for _, x := range imbalance {
			sum += x
		}
		fmt.Printf("the last %d: %.2f\n", f.Past, sum/float64(len(imbalance)))
	}
	// Output:
	// the last 1: 1.22
	// the last 2: 1.03
}
