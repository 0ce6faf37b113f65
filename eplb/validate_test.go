package eplb

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/moelb/moelb/placement"
)

// goodProblem is 4 experts in 2 layers, 6 slots on 2 GPUs.
func goodProblem() Problem {
	return Problem{Loads: placement.Loads{{4, 3, 2, 1}, {1, 1, 1, 1}}, Replicas: 6, Topology: placement.Topology{GPUs: 2}}
}

func TestBadInput(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		name  string
		spoil func(p *Problem, o *Options)
		kind  error
		field string
		layer int
		index int
	}{
		{"no layers", func(p *Problem, o *Options) { p.Loads = nil }, placement.ErrShape, "loads", -1, -1},
		{"no experts", func(p *Problem, o *Options) { p.Loads = placement.Loads{{}, {}} }, placement.ErrShape, "loads", 0, -1},
		{"ragged", func(p *Problem, o *Options) { p.Loads[1] = p.Loads[1][:3] }, placement.ErrShape, "loads", 1, -1},
		{"negative load", func(p *Problem, o *Options) { p.Loads[1][2] = -4 }, placement.ErrValue, "loads", 1, 2},
		{"load not a number", func(p *Problem, o *Options) { p.Loads[0][3] = nan }, placement.ErrValue, "loads", 0, 3},
		{"infinite load", func(p *Problem, o *Options) { p.Loads[1][0] = inf }, placement.ErrValue, "loads", 1, 0},
		{"load too large to add up", func(p *Problem, o *Options) { p.Loads[1][0] = math.MaxFloat64 }, placement.ErrValue, "loads", 1, 0},
		{"too many layers", func(p *Problem, o *Options) { p.Loads = placement.NewLoads(placement.MaxLayers+1, 1) }, placement.ErrShape, "loads", -1, -1},
		{"too many experts", func(p *Problem, o *Options) { p.Loads = placement.NewLoads(1, placement.MaxExperts+1) }, placement.ErrShape, "loads", 0, -1},
		{"no GPUs", func(p *Problem, o *Options) { p.Topology.GPUs = 0 }, placement.ErrValue, "num_gpus", -1, -1},
		{"negative GPUs", func(p *Problem, o *Options) { p.Topology.GPUs = -8 }, placement.ErrValue, "num_gpus", -1, -1},
		{"too many GPUs", func(p *Problem, o *Options) { p.Topology.GPUs = placement.MaxGPUs + 1 }, placement.ErrValue, "num_gpus", -1, -1},
		{"negative nodes", func(p *Problem, o *Options) { p.Topology.Nodes = -1 }, placement.ErrValue, "num_nodes", -1, -1},
		{"nodes that do not divide", func(p *Problem, o *Options) { p.Topology.Nodes = 3 }, placement.ErrShape, "num_nodes", -1, -1},
		{"too few speeds", func(p *Problem, o *Options) { p.Topology.Speed = []float64{1} }, placement.ErrShape, "gpu_speed", -1, -1},
		{"negative speed", func(p *Problem, o *Options) { p.Topology.Speed = []float64{1, -1} }, placement.ErrValue, "gpu_speed", -1, 1},
		{"speed not a number", func(p *Problem, o *Options) { p.Topology.Speed = []float64{nan, 1} }, placement.ErrValue, "gpu_speed", -1, 0},
		{"infinite speed", func(p *Problem, o *Options) { p.Topology.Speed = []float64{1, inf} }, placement.ErrValue, "gpu_speed", -1, 1},
		{"absurd speed", func(p *Problem, o *Options) { p.Topology.Speed = []float64{1, 1e-300} }, placement.ErrValue, "gpu_speed", -1, 1},
		{"all out of service", func(p *Problem, o *Options) { p.Topology.Speed = []float64{0, 0} }, placement.ErrFit, "gpu_speed", -1, -1},
		{"no replicas", func(p *Problem, o *Options) { p.Replicas = 0 }, placement.ErrValue, "num_replicas", -1, -1},
		{"negative replicas", func(p *Problem, o *Options) { p.Replicas = -6 }, placement.ErrValue, "num_replicas", -1, -1},
		{"too many replicas", func(p *Problem, o *Options) { p.Replicas = placement.MaxSlots + 1 }, placement.ErrValue, "num_replicas", -1, -1},
		{"most replicas there can be", func(p *Problem, o *Options) { p.Replicas = math.MaxInt }, placement.ErrValue, "num_replicas", -1, -1},
		{"too many slots in all", func(p *Problem, o *Options) {
			p.Loads, p.Replicas = placement.NewLoads(placement.MaxLayers, 1), placement.MaxSlots
		}, placement.ErrValue, "num_replicas", -1, -1},
		{"fewer replicas than experts", func(p *Problem, o *Options) { p.Replicas = 3 }, placement.ErrFit, "num_replicas", -1, -1},
		{"too few slots in service", func(p *Problem, o *Options) { p.Topology.Speed = []float64{0, 1} }, placement.ErrFit, "gpu_speed", -1, -1},
		{"negative groups", func(p *Problem, o *Options) { p.Groups = -1 }, placement.ErrValue, "num_groups", -1, -1},
		{"groups that do not divide", func(p *Problem, o *Options) { p.Groups, o.Locality = 3, ByGroup }, placement.ErrShape, "num_groups", -1, -1},
		{"groups that nodes cannot share", func(p *Problem, o *Options) { p.Groups, p.Topology.Nodes, o.Locality = 1, 2, ByGroup }, placement.ErrShape, "num_groups", -1, -1},
		{"negative off-node replicas", func(p *Problem, o *Options) { o.OffNodeReplicas = -1 }, placement.ErrValue, "off_node_replicas", -1, -1},
		{"tolerance not a number", func(p *Problem, o *Options) { o.Tolerance = nan }, placement.ErrValue, "tolerance", -1, -1},
		{"negative workers", func(p *Problem, o *Options) { o.Workers = -1 }, placement.ErrValue, "workers", -1, -1},
		{"unknown policy", func(p *Problem, o *Options) { o.Policy = 7 }, placement.ErrValue, "policy", -1, -1},
		{"unknown locality", func(p *Problem, o *Options) { o.Locality = -1 }, placement.ErrValue, "locality", -1, -1},
		{"unknown dispatch", func(p *Problem, o *Options) { o.Dispatch = 3 }, placement.ErrValue, "dispatch", -1, -1},
		{"speeds under deepseek", func(p *Problem, o *Options) { o.Policy, p.Topology.Speed = DeepSeek, []float64{1, 2} }, placement.ErrValue, "gpu_speed", -1, -1},
		{"split under deepseek", func(p *Problem, o *Options) { o.Policy, o.Dispatch = DeepSeek, Split }, placement.ErrValue, "dispatch", -1, -1},
		{"uneven slots under deepseek", func(p *Problem, o *Options) { o.Policy, p.Replicas = DeepSeek, 5 }, placement.ErrShape, "num_replicas", -1, -1},
		{"groups that do not divide under deepseek", func(p *Problem, o *Options) { o.Policy, p.Groups = DeepSeek, 3 }, placement.ErrShape, "num_groups", -1, -1},
	} {
		p, o := goodProblem(), Options{}
		c.spoil(&p, &o)
		r, err := Plan(context.Background(), p, o)
		var e *placement.Error
		switch {
		case err == nil:
			t.Errorf("%s: accepted", c.name)
		case !errors.Is(err, c.kind) || !errors.As(err, &e):
			t.Errorf("%s: %v, not of the kind %v", c.name, err, c.kind)
		case e.Field != c.field || e.Layer != c.layer || e.Index != c.index:
			t.Errorf("%s: %v: field %q, layer %d, index %d", c.name, err, e.Field, e.Layer, e.Index)
		case strings.ContainsAny(err.Error(), "\n\r"):
			t.Errorf("%s: more than one line: %q", c.name, err)
		case r.Layers != nil || r.Placement.PhysicalToLogical != nil:
			t.Errorf("%s: a result beside the error", c.name)
		}
	}
}

func TestErrorSaysWhatWouldFit(t *testing.T) {
	p := Problem{Loads: placement.NewLoads(1, 256), Replicas: 288, Topology: placement.PrefillUnit()}
	p.Topology.Speed = make([]float64, 32)
	for g := 4; g < 32; g++ {
		p.Topology.Speed[g] = 1
	}
	_, err := Plan(context.Background(), p, Options{})
	const want = "gpu_speed: 256 experts do not fit the 252 slots of the 28 GPUs in service: 10 slots a GPU, 320 in all, would do"
	if err == nil || err.Error() != want {
		t.Fatalf("%v\nnot\n%s", err, want)
	}
	if p.Replicas = 320; mustPlan(t, p, Options{}).Layers[0].Imbalance != 1 {
		t.Error("320 replicas do not do")
	}
	// The numbers of the message are right in 32 bits too.
	p = Problem{Loads: placement.NewLoads(1, placement.MaxExperts), Replicas: placement.MaxSlots, Topology: placement.Topology{GPUs: placement.MaxGPUs}}
	p.Topology.Speed = make([]float64, placement.MaxGPUs)
	p.Topology.Speed[7] = 1
	if _, err = Plan(context.Background(), p, Options{}); err == nil || !strings.Contains(err.Error(), "4294967296 in all") {
		t.Error(err)
	}
}

// Loads at the ends of what a float64 can hold.
func TestExtremeLoads(t *testing.T) {
	plan := func(scale float64) Result {
		p := goodProblem()
		for e, x := range []float64{9, 5, 1, 0} {
			p.Loads[0][e] = x * scale
		}
		return mustPlan(t, p, Options{})
	}
	want := plan(1)
	for _, scale := range []float64{5e-324, 1e-310, 1e-290, 1e290, 1e301} {
		r := plan(scale)
		if err := r.Placement.Validate(); err != nil {
			t.Errorf("loads of %v: %v", scale, err)
		}
		if x := r.Layers[0]; math.Abs(x.Imbalance-want.Layers[0].Imbalance) > 1e-12 || x.Status != Proved {
			t.Errorf("loads of %v: %+v, not %+v", scale, x, want.Layers[0])
		}
	}
}

// TestTracesOfLoad demands plans of loads too small to be divided by GPUs: as of ones
// that are not, where a layer has no others, and as of none beside such.
func TestTracesOfLoad(t *testing.T) {
	const x = 5e-324
	plan := func(scale float64, change func(p *Problem)) Result {
		p := Problem{Loads: placement.Loads{{x * scale, 0, 0, 3 * x * scale, 2 * x * scale, 3 * x * scale, 2 * x * scale, 3 * x * scale, x * scale}},
			Replicas: 16, Topology: placement.Topology{GPUs: 16, Nodes: 2}}
		change(&p)
		return mustPlan(t, p, Options{})
	}
	previous := plan(1e300, func(p *Problem) { slices.Reverse(p.Loads[0]) })
	for _, change := range []func(p *Problem){
		func(p *Problem) {},
		func(p *Problem) { p.Previous = &previous.Placement },
		func(p *Problem) { p.Topology.Speed = slices.Repeat([]float64{1, .8}, 8) },
		func(p *Problem) { p.Everywhere, p.Replicas = []int{3}, 32 },
		func(p *Problem) {
			other := slices.Clone(p.Loads[0])
			slices.Reverse(other)
			p.Windows, p.Loads = []placement.Loads{p.Loads, {other}}, nil
		},
	} {
		got, want := plan(1, change), plan(0x1p1000, change)
		if d := cmp.Diff(want, got, cmpopts.EquateNaNs()); d != "" {
			t.Error(d)
		}
	}
	other := placement.Loads{{.8, .7, .6, .5, .4, .3, .2, .1, 0}}
	alone := plan(1, func(p *Problem) { p.Loads = other })
	for _, scale := range []float64{1, 0x1p69} { // the largest that are too small
		beside := plan(scale, func(p *Problem) { p.Windows, p.Loads = []placement.Loads{p.Loads, other}, nil })
		if d := cmp.Diff(alone, beside, cmpopts.EquateNaNs(), cmpopts.EquateApprox(1e-9, 0)); d != "" {
			t.Error(d)
		}
	}
}

// TestOffNodeReplicasOfAll demands that any number may be given.
func TestOffNodeReplicasOfAll(t *testing.T) {
	p := Problem{Loads: placement.Loads{{9, 5, 1, 0, 2, 3, 4, 1}}, Replicas: 12, Groups: 4, Topology: placement.Topology{GPUs: 4, Nodes: 2}}
	o := Options{Locality: ByGroup, OffNodeReplicas: p.Replicas}
	want := mustPlan(t, p, o)
	o.OffNodeReplicas = math.MaxInt
	if d := cmp.Diff(want, mustPlan(t, p, o)); d != "" {
		t.Error(d)
	}
}

// validate is what Plan does first with layers of one shape.
func validate(p *Problem, o *Options) error {
	if err := check(p, o); err != nil {
		return err
	}
	return fit(p, o)
}

// Numbers in errors are written out as they were given.
func TestErrorsWriteNumbersOut(t *testing.T) {
	for want, spoil := range map[string]func(p *Problem, o *Options){
		"num_replicas: 200000000: between 1 and 262144 are possible": func(p *Problem, o *Options) { p.Replicas = 200000000 },
		"target: 0.25: at least 1 is needed":                         func(p *Problem, o *Options) { p.Previous, o.Target = &placement.Placement{}, .25 },
		"layer_weights: layer 0: 3000000: between 0 and 1000000 are possible": func(p *Problem, o *Options) {
			p.LayerWeights = []float64{3e6}
		},
	} {
		p, o := Problem{Loads: placement.Loads{{1, 1}}, Replicas: 2, Topology: placement.Topology{GPUs: 2}}, Options{}
		spoil(&p, &o)
		if _, err := Plan(t.Context(), p, o); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
