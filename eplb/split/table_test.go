package split

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
)

func TestTable(t *testing.T) {
	better := 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		top := placement.Topology{GPUs: 8, Nodes: 2}
		if seed%3 == 0 {
			top.Speed = []float64{1, 1, 2, 1, 1, 0, 1, 1}
		}
		const experts, each = 16, 4
		row := make([]int, top.GPUs*each)
		for s := range row {
			row[s] = s % experts
			if s/each >= 4 && s/each != 5 { // GPUs 0 to 3 hold every expert, the others any
				row[s] = rng.IntN(experts)
			}
			if top.SpeedOf(s/each) == 0 {
				row[s] = -1
			}
		}
		p := &placement.Placement{Experts: experts, GPUs: top.GPUs, PhysicalToLogical: [][]int{row}}
		loads := placement.NewLoads(1, experts)
		for e := range loads[0] {
			loads[0][e] = rng.ExpFloat64()
		}
		tables, layers, err := Table(p, top, loads)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float64, top.GPUs)
		for g, served := range tables[0] {
			for e, s := range served {
				if top.SpeedOf(g) == 0 {
					if s != -1 {
						t.Errorf("seed %d: GPU %d is out of service, but sends to slot %d", seed, g, s)
					}
					continue
				}
				if row[s] != e {
					t.Fatalf("seed %d: GPU %d sends expert %d to slot %d, which holds %d", seed, g, e, s, row[s])
				}
				got[s/each] += loads[0][e] / float64(top.InService())
			}
		}
		if x := placement.Imbalance(got, top.Speed); math.Abs(x-layers[0].Imbalance) > 1e-9 {
			t.Errorf("seed %d: says %v, counted %v", seed, layers[0].Imbalance, x)
		}
		near, err := p.ScoreNearest(loads, top)
		if err != nil {
			t.Fatal(err)
		}
		if layers[0].Imbalance < near[0].Imbalance*.95 {
			better++
		}
	}
	if better < 20 {
		t.Errorf("5%% more even than the nearest replicas in %d of 40", better)
	}
}

func TestTableKeepsWhatIsNear(t *testing.T) {
	// Two nodes of two GPUs that hold the same, evenly loaded: nobody sends away.
	p := &placement.Placement{Experts: 4, GPUs: 4, PhysicalToLogical: [][]int{{0, 1, 2, 3, 0, 1, 2, 3}}}
	tables, layers, err := Table(p, placement.Topology{GPUs: 4, Nodes: 2}, placement.Loads{{1, 1, 1, 1}})
	if err != nil || layers[0].Imbalance != 1 {
		t.Fatal(layers, err)
	}
	for g, row := range tables[0] {
		for e, s := range row {
			if s/4 != g/2 {
				t.Errorf("GPU %d sends expert %d to slot %d of the other node", g, e, s)
			}
		}
	}
	if _, _, err := Table(p, placement.Topology{GPUs: 4, Nodes: 2}, placement.Loads{{1, 1}}); err == nil || !strings.HasPrefix(err.Error(), "loads: 1x2") {
		t.Error(err)
	}
}

// A GPU is served by its own replica, however full, else by one on its node, of several
// by that of the least loaded GPU, else by any.
func TestTableStartsFromTheNearest(t *testing.T) {
	gpu := []int32{0, 1, 2, 3}
	for _, nodes := range []int{1, 2, 4} {
		y := &tabling{&placement.Topology{GPUs: 4, Nodes: nodes}, gpu, [][]int{{0, 1}, {2, 3}}, []float64{.25, .25}, []float64{9, 0, 0, 0}}
		for g, want := range []int{0, 1, 1, 1} {
			if s := y.choose(g, 0, 0, math.Inf(1)).slot; s != want {
				t.Errorf("%d nodes: GPU %d is served by slot %d, want %d", nodes, g, s, want)
			}
		}
	}
	// Full as it is, the node's own comes before the other node's.
	y := &tabling{&placement.Topology{GPUs: 4, Nodes: 2}, gpu, [][]int{{0, 2}, {1, 3}}, []float64{.25, .25}, []float64{9, 0, 0, 0}}
	if s := y.choose(1, 0, 0, math.Inf(1)).slot; s != 0 {
		t.Errorf("GPU 1 is served by slot %d of the other node", s)
	}
}

func TestTableRefuses(t *testing.T) {
	p := placement.Trivial(1, 4, 6, 3)
	loads := placement.Loads{{1, 2, 3, 4}}
	for want, top := range map[string]placement.Topology{
		"physical_to_logical_map: layer 0, index 2: expert 2 on GPU 1, which is out of service": {GPUs: 3, Speed: []float64{1, 0, 1}},
		"num_gpus: the placement has 3, the topology 2":                                         {GPUs: 2, Nodes: 1},
	} {
		if _, _, err := Table(&p, top, loads); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
