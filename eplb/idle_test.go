package eplb

import (
	"context"
	"testing"

	"github.com/moelb/moelb/placement"
)

// TestFewExpertsHaveLoad: a few tokens reach a few experts. Every layer is planned, however
// few those are: an expert that all GPUs hold takes no more, and the copies that are left
// over go to experts without load.
func TestFewExpertsHaveLoad(t *testing.T) {
	for gpus := 1; gpus <= 5; gpus++ {
		for each := 2; each <= 5; each++ {
			for experts := each; experts <= min(gpus*each, 8); experts++ {
				loads := placement.NewLoads(experts+1, experts) // layer l: l of them have load
				for l := range loads {
					for e := range l {
						loads[l][(e*3+l)%experts] = 1
					}
				}
				for _, d := range []Dispatch{Even, Split, Nearest} {
					p := Problem{Loads: loads, Replicas: gpus * each, Topology: placement.Topology{GPUs: gpus}}
					r, err := Plan(context.Background(), p, Options{Dispatch: d, Workers: 1})
					if err != nil {
						t.Fatalf("%d experts on %d GPUs of %d slots, %v: %v", experts, gpus, each, d, err)
					}
					if err := r.Placement.CheckComplete(); err != nil {
						t.Errorf("%d experts on %d GPUs of %d slots, %v: %v", experts, gpus, each, d, err)
					}
				}
			}
		}
	}
}
