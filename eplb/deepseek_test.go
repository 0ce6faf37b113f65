package eplb

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// published is one case of testdata/deepseek_eplb.json.gz: arguments and
// results of the published program, as it printed them.
type published struct {
	Name        string          `json:"name"`
	Kind        string          `json:"kind"`
	Weight      placement.Loads `json:"weight"`
	NumReplicas int             `json:"num_replicas"`
	NumGroups   int             `json:"num_groups"`
	NumNodes    int             `json:"num_nodes"`
	NumGPUs     int             `json:"num_gpus"`
	Phy2Log     [][]int         `json:"phy2log"`
	Log2Phy     [][][]int       `json:"log2phy"`
	LogCnt      [][]int         `json:"logcnt"`
}

func (c *published) problem() Problem {
	return Problem{Loads: c.Weight, Replicas: c.NumReplicas, Groups: c.NumGroups, Topology: placement.Topology{GPUs: c.NumGPUs, Nodes: c.NumNodes}}
}

func readPublished(t testing.TB) []published {
	f, err := os.Open("testdata/deepseek_eplb.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Source string
		Cases  []published
	}
	if err := json.NewDecoder(z).Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file.Cases
}

func TestDeepSeekPublished(t *testing.T) {
	cases := readPublished(t)
	if len(cases) != 246 {
		t.Fatalf("%d cases, want 246", len(cases))
	}
	for i := range cases {
		c := &cases[i]
		t.Run(c.Name+"/"+c.Kind, func(t *testing.T) {
			r, err := Plan(context.Background(), c.problem(), Options{Policy: DeepSeek})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range []struct {
				name      string
				want, got any
			}{
				{"physical_to_logical_map", c.Phy2Log, r.Placement.PhysicalToLogical},
				{"logical_to_physical_map", c.Log2Phy, r.Placement.LogicalToPhysical()},
				{"logical_count", c.LogCnt, r.Placement.LogicalCount()},
			} {
				if !reflect.DeepEqual(x.want, x.got) {
					t.Errorf("%s differs", x.name)
				}
			}
			checkDeepSeekReport(t, c.problem(), r)
		})
	}
}

// checkDeepSeekReport demands that r is a valid placement, that it scores what it says
// and that its bounds hold.
func checkDeepSeekReport(t *testing.T, p Problem, r Result) {
	t.Helper()
	scores, err := r.Placement.ScoreLayers(p.Loads, placement.Topology{})
	if err != nil {
		t.Fatal(err)
	}
	for l, x := range r.Layers {
		if x.Imbalance != scores[l].Imbalance {
			t.Errorf("layer %d: imbalance %v, the placement scores %v", l, x.Imbalance, scores[l].Imbalance)
		}
		least := leastLargestReplica(p.Loads[l], p.Replicas) * float64(p.Topology.GPUs) / total(p.Loads[l])
		if total(p.Loads[l]) == 0 {
			least = 0
		}
		least = min(max(1, least), x.Imbalance)
		fits := slices.Max(p.Loads[l]) < math.MaxFloat32 // else replicas are not counted well
		if x.LowerBound > least*(1+1e-9) || fits && x.LowerBound < least*(1-1e-5) {
			t.Errorf("layer %d: lower bound %v, want %v", l, x.LowerBound, least)
		}
		if want := x.Imbalance <= x.LowerBound*(1+1e-9); (x.Status == Proved) != want {
			t.Errorf("layer %d: status %v at %v with bound %v", l, x.Status, x.Imbalance, x.LowerBound)
		}
	}
}

func total(w []float64) (sum float64) {
	for _, x := range w {
		sum += x
	}
	return sum
}

// leastLargestReplica cuts loads into replicas, always the largest once more.
func leastLargestReplica(loads []float64, replicas int) float64 {
	count := make([]float64, len(loads))
	for e := range count {
		count[e] = 1
	}
	for n := len(loads); ; n++ {
		top := 0
		for e := range loads {
			if loads[e]/count[e] > loads[top]/count[top] {
				top = e
			}
		}
		if n == replicas {
			return loads[top] / count[top]
		}
		count[top]++
	}
}

// The published arguments may divide in ways that need no groups or nodes.
func TestDeepSeekIgnoresNodes(t *testing.T) {
	p := Problem{Loads: placement.Loads{{5, 4, 3, 2, 1}}, Replicas: 8, Groups: 2, Topology: placement.Topology{GPUs: 4, Nodes: 3}}
	got, err := Plan(context.Background(), p, Options{Policy: DeepSeek})
	if err != nil {
		t.Fatal(err)
	}
	p.Groups, p.Topology.Nodes = 1, 1
	want, err := Plan(context.Background(), p, Options{Policy: DeepSeek})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p.Topology.NodeGPUs, p.Topology.Nodes = []int{2, 2}, 0 // even ones are no others than their number
	if got, err = Plan(context.Background(), p, Options{Policy: DeepSeek}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestDeepSeekRefuses(t *testing.T) {
	good := func() (Problem, Options) {
		return Problem{Loads: placement.Loads{{4, 3, 2, 1}}, Replicas: 8, Groups: 2, Topology: placement.Topology{GPUs: 4, Nodes: 2}}, Options{Policy: DeepSeek}
	}
	for _, c := range []struct {
		field string
		kind  error
		spoil func(p *Problem, o *Options)
	}{
		{"num_replicas", placement.ErrShape, func(p *Problem, o *Options) { p.Replicas = 6 }},
		{"num_replicas", placement.ErrFit, func(p *Problem, o *Options) { p.Topology, p.Replicas = placement.Topology{GPUs: 2, Nodes: 2}, 2 }},
		{"num_nodes", placement.ErrShape, func(p *Problem, o *Options) { p.Topology.GPUs = 1; p.Replicas = 4 }},
		{"num_nodes", placement.ErrValue, func(p *Problem, o *Options) { p.Topology.Nodes = -3 }},
		{"num_groups", placement.ErrValue, func(p *Problem, o *Options) { p.Groups = -3 }},
		{"num_groups", placement.ErrShape, func(p *Problem, o *Options) { p.Groups = 8 }},
		{"gpu_speed", placement.ErrValue, func(p *Problem, o *Options) { p.Topology.Speed = []float64{1, 1, 1, 0} }},
		{"dispatch", placement.ErrValue, func(p *Problem, o *Options) { o.Dispatch = Split }},
		{"locality", placement.ErrValue, func(p *Problem, o *Options) { o.Locality = Free }},
		{"off_node_replicas", placement.ErrValue, func(p *Problem, o *Options) { o.OffNodeReplicas = 1 }},
	} {
		p, o := good()
		if _, err := Plan(context.Background(), p, o); err != nil {
			t.Fatal(err)
		}
		c.spoil(&p, &o)
		_, err := Plan(context.Background(), p, o)
		var e *placement.Error
		if !errors.As(err, &e) || e.Field != c.field || !errors.Is(err, c.kind) {
			t.Errorf("got %v, want field %s, %v", err, c.field, c.kind)
		}
	}
}

// A bound holds where the published program's float32 cannot tell loads apart.
func TestDeepSeekBoundOfLargeLoads(t *testing.T) {
	for _, loads := range []placement.Loads{{{1e39, 3e39}}, {{1e39, 2e39, 9e39, 1}}, {{5, 1e39, 4e39, 3e39}}} {
		p := Problem{Loads: loads, Replicas: 2 * len(loads[0]), Topology: placement.Topology{GPUs: len(loads[0])}}
		r, err := Plan(context.Background(), p, Options{Policy: DeepSeek})
		if err != nil {
			t.Fatal(err)
		}
		checkDeepSeekReport(t, p, r)
	}
}
