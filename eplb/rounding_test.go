package eplb

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/moelb/moelb/placement"
)

// Neither an imbalance nor a bound is below 1, whatever loads that come out even round to.
func TestNoImbalanceIsOne(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 61))
		gpus, x := 2+rng.IntN(9), rng.Float64()
		p := Problem{Loads: placement.NewLoads(2, 2*gpus), Replicas: 3 * gpus, Topology: placement.Topology{GPUs: gpus}}
		for l := range p.Loads {
			for e := range p.Loads[l] {
				p.Loads[l][e] = x
			}
		}
		switch rng.IntN(4) {
		case 0:
			p.LayerReplicas = []int{2 * gpus, 3 * gpus}
		case 1:
			p.Everywhere = []int{rng.IntN(gpus)}
			p.Replicas = 4 * gpus
		case 2:
			p.Windows, p.Loads = []placement.Loads{p.Loads, p.Loads, p.Loads}, nil
		}
		o := Options{Dispatch: Dispatch(rng.IntN(3))}
		if p.LayerReplicas == nil && p.Everywhere == nil && rng.IntN(4) == 0 {
			o = Options{Policy: DeepSeek}
		}
		r := mustPlan(t, p, o)
		for l, y := range r.Layers {
			if y.LowerBound < 1 || y.Imbalance < y.LowerBound || y.Imbalance < 1+1e-9 && y.Status != Proved {
				t.Errorf("seed %d, layer %d: %+v", seed, l, y)
			}
		}
		loads := p.Loads
		if loads == nil {
			loads = p.Windows[0]
		}
		scores, err := r.Placement.ScoreLayers(loads, p.Topology)
		if err != nil {
			t.Fatal(err)
		}
		for l, y := range scores {
			if y.Imbalance < 1 || y.Balancedness > 1 {
				t.Errorf("seed %d, layer %d: %+v", seed, l, y)
			}
		}
	}
}

// A report, but for its placement, consists of lists of layers and of pointers to such,
// which plans by parts gather.
func TestReportsAreLists(t *testing.T) {
	var walk func(x reflect.Type)
	walk = func(x reflect.Type) {
		for i := range x.NumField() {
			f := x.Field(i)
			switch of := f.Type; {
			case of == reflect.TypeFor[placement.Placement](), of.Kind() == reflect.Slice:
			case of.Kind() == reflect.Pointer && of.Elem().Kind() == reflect.Struct:
				walk(of.Elem())
			default:
				t.Errorf("%s.%s is a %s", x, f.Name, of)
			}
		}
	}
	walk(reflect.TypeFor[Result]())
}
