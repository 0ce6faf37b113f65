package eplb

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
)

// checkWindows demands a valid plan whose layers are told truly.
func checkWindows(t *testing.T, p Problem, r Result) {
	t.Helper()
	if err := r.Placement.Validate(); err != nil {
		t.Fatal(err)
	}
	mean, err := r.Placement.ImbalanceOver(p.Windows, p.Topology)
	if err != nil {
		t.Fatal(err)
	}
	for l, x := range mean {
		if got := r.Layers[l]; math.Abs(got.Imbalance-x) > 1e-9*x || got.LowerBound > x*(1+1e-9) || got.LowerBound < 1-1e-9 {
			t.Errorf("layer %d: %+v, but the mean over the windows is %v", l, got, x)
		}
	}
}

func TestWindowsWorkersAgree(t *testing.T) {
	p := Problem{Windows: alternating(9, 64, 4, 2), Replicas: 72, Topology: placement.H800(1)}
	var first Result
	for workers := 1; workers <= 4; workers++ {
		r, err := Plan(t.Context(), p, Options{Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		if workers == 1 {
			first = r
		} else if !reflect.DeepEqual(r, first) {
			t.Errorf("%d workers: another plan than with 1", workers)
		}
	}
}

// A lone window is planned as Loads, and so is one beside windows without load,
// which count for nothing.
func TestOneWindowIsLoads(t *testing.T) {
	w := workload.Zipf(3, 64, 1.2, 1e5, 4)
	plain := Problem{Loads: w, Replicas: 68, Topology: placement.Topology{GPUs: 4}}
	want, err := Plan(t.Context(), plain, Options{})
	if err != nil {
		t.Fatal(err)
	}
	idle := placement.NewLoads(3, 64)
	for _, windows := range [][]placement.Loads{{w}, {idle, w, idle, idle}} {
		p := plain
		p.Loads, p.Windows = nil, windows
		r, err := Plan(t.Context(), p, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r.Placement, want.Placement) {
			t.Errorf("%d windows: another plan", len(windows))
		}
		for l, got := range r.Layers {
			if x := want.Layers[l].Imbalance; math.Abs(got.Imbalance-x) > 1e-12 || got.Status != want.Layers[l].Status {
				t.Errorf("%d windows, layer %d: %+v, want %v", len(windows), l, got, x)
			}
		}
		checkWindows(t, Problem{Windows: windows}, r)
	}
	p := plain
	p.Loads, p.Windows = nil, []placement.Loads{idle, idle}
	r, err := Plan(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkWindows(t, p, r)
	for l, got := range r.Layers {
		if got.Imbalance != 1 || got.Status != Proved {
			t.Errorf("no load, layer %d: %+v", l, got)
		}
	}
}

// Windows count by their tokens: one that is split in two alike is as it was, one
// that is next to nothing changes nothing, and no unit does.
func TestWindowsCountByTokens(t *testing.T) {
	p := Problem{Windows: alternating(3, 32, 4, 5), Replicas: 40, Topology: placement.Topology{GPUs: 8}}
	want, err := Plan(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	scaled := func(w placement.Loads, by float64) placement.Loads {
		out := placement.NewLoads(len(w), w.Experts())
		for l, row := range w {
			for e, x := range row {
				out[l][e] = x * by
			}
		}
		return out
	}
	q := p
	q.Windows = nil
	for _, w := range p.Windows {
		q.Windows = append(q.Windows, scaled(w, 0x1p40))
	}
	r, err := Plan(t.Context(), q, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, want) {
		t.Error("another plan for scaled windows")
	}
	for name, windows := range map[string][]placement.Loads{
		"halves":          append(q.Windows[:3:3], scaled(q.Windows[3], .5), scaled(q.Windows[3], .5)),
		"next to nothing": append(q.Windows[:4:4], scaled(q.Windows[1], 0x1p-60)),
	} {
		got, err := want.Placement.ImbalanceOver(windows, q.Topology)
		if err != nil {
			t.Fatal(err)
		}
		for l, x := range got {
			if math.Abs(x-want.Layers[l].Imbalance) > 1e-9 {
				t.Errorf("%s, layer %d: %v, want %v", name, l, x, want.Layers[l].Imbalance)
			}
		}
	}
	// A window that is most of all is what the plan is for.
	q.Windows[2] = scaled(p.Windows[2], 0x1p80)
	if r, err = Plan(t.Context(), q, Options{}); err != nil {
		t.Fatal(err)
	}
	checkWindows(t, q, r)
	alone, err := Plan(t.Context(), Problem{Loads: p.Windows[2], Replicas: 40, Topology: p.Topology}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for l, x := range r.Layers {
		if x.Imbalance > alone.Layers[l].Imbalance*(1+1e-9) {
			t.Errorf("layer %d: %v, but %v for the window that is all", l, x.Imbalance, alone.Layers[l].Imbalance)
		}
	}
}

func TestWindowsPlannedAsTheirSum(t *testing.T) {
	windows := alternating(4, 64, 3, 6)
	sum := placement.NewLoads(4, 64)
	for _, w := range windows {
		if err := sum.AddWindow(w); err != nil {
			t.Fatal(err)
		}
	}
	p := Problem{Replicas: 72, Groups: 8, Topology: placement.Topology{GPUs: 8, Nodes: 2}}
	whole, parts := p, p
	whole.Loads, parts.Windows = sum, windows
	want, err := Plan(t.Context(), whole, Options{Policy: DeepSeek})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Plan(t.Context(), parts, Options{Policy: DeepSeek})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r.Placement, want.Placement) {
		t.Error("policy deepseek: not the plan of the sum")
	}
	checkWindows(t, parts, r)
	free, err := Plan(t.Context(), parts, Options{Locality: Free})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = Plan(t.Context(), parts, Options{Locality: ByGroup}); err != nil {
		t.Fatal(err)
	}
	checkWindows(t, parts, r)
	for l, x := range r.Locality.FreeImbalance {
		if math.Abs(x-free.Layers[l].Imbalance) > 1e-12 || x > r.Layers[l].Imbalance {
			t.Errorf("layer %d: %v without groups, want %v; with groups %v", l, x, free.Layers[l].Imbalance, r.Layers[l].Imbalance)
		}
	}
	moved := parts
	moved.Previous = &want.Placement
	if r, err = Plan(t.Context(), moved, Options{Locality: Free, MaxMoves: 20}); err != nil {
		t.Fatal(err)
	}
	checkWindows(t, parts, r)
	if r, err = Plan(t.Context(), parts, Options{Locality: Free, Dispatch: Split}); err != nil {
		t.Fatal(err)
	}
	if err := r.Placement.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWindowsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := Problem{Windows: alternating(5, 64, 4, 7), Replicas: 72, Topology: placement.H800(1)}
	r, err := Plan(ctx, p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkWindows(t, p, r)
	for l, got := range r.Layers {
		if got.Status != Stopped {
			t.Errorf("layer %d: %v", l, got.Status)
		}
	}
}

func TestWindowsRefused(t *testing.T) {
	good := func() placement.Loads { return placement.Loads{{1, 2}, {3, 4}} }
	for _, c := range []struct {
		name    string
		loads   placement.Loads
		windows []placement.Loads
		policy  Policy
		kind    error
		want    string
	}{
		{"none", nil, []placement.Loads{}, Optimal, placement.ErrShape, "loads: no windows"},
		{"both", good(), []placement.Loads{good()}, Optimal, placement.ErrShape, "loads: both loads and windows are given"},
		{"layers", nil, []placement.Loads{good(), good()[:1]}, Optimal, placement.ErrShape, "loads: window 1: 1 layers of 2 experts, but window 0 has 2 of 2"},
		{"experts", nil, []placement.Loads{good(), {{1}, {1}}}, Optimal, placement.ErrShape, "loads: window 1: 2 layers of 1 experts, but window 0 has 2 of 2"},
		{"ragged", nil, []placement.Loads{good(), {{1, 2}, {1}}}, Optimal, placement.ErrShape, "loads: layer 1: window 1: 1 experts, but layer 0 has 2"},
		{"negative", nil, []placement.Loads{good(), good(), {{1, 2}, {1, -1}}}, Optimal, placement.ErrValue, "loads: layer 1, index 1: window 2: -1 is negative"},
		{"empty", nil, []placement.Loads{good(), {}}, Optimal, placement.ErrShape, "loads: window 1: no layers"},
		{"too many for the GPUs", nil, slices.Repeat([]placement.Loads{good()}, 1<<21+1), Optimal, placement.ErrShape, "loads: 2097153 windows of 2 layers and 2 experts on 2 GPUs: at most 2097152 are supported"},
		{"sum too large", nil, []placement.Loads{{{6e302, 1}}, {{6e302, 1}}}, DeepSeek, placement.ErrValue, "loads: layer 0, index 0: 1.2e+303 is too large to add up"},
	} {
		p := Problem{Loads: c.loads, Windows: c.windows, Replicas: 2, Topology: placement.Topology{GPUs: 2}}
		_, err := Plan(t.Context(), p, Options{Policy: c.policy})
		if err == nil || err.Error() != c.want || !errors.Is(err, c.kind) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// FuzzWindows demands a valid plan, told truly, of whatever is accepted.
func FuzzWindows(f *testing.F) {
	f.Add(uint64(1), byte(8), byte(3), byte(12), byte(3), byte(0))
	f.Add(uint64(2), byte(64), byte(8), byte(72), byte(4), byte(3))
	f.Fuzz(func(t *testing.T, seed uint64, experts, gpus, replicas, windows, dead byte) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := Problem{Replicas: int(replicas), Topology: placement.Topology{GPUs: int(gpus % 24)}}
		if dead > 0 {
			p.Topology.Speed = make([]float64, p.Topology.GPUs)
			for g := range p.Topology.Speed {
				p.Topology.Speed[g] = float64(r.IntN(int(dead)+1)) / 2
			}
		}
		for range 2 + windows%6 {
			w := placement.NewLoads(2, int(experts))
			for _, row := range w {
				spread := 4 * r.Float64()
				for e := range row {
					row[e] = float64(r.IntN(3)) * math.Exp(spread*r.NormFloat64())
				}
			}
			p.Windows = append(p.Windows, w)
		}
		got, err := Plan(t.Context(), p, Options{})
		if err == nil {
			checkWindows(t, p, got)
		}
	})
}

// TestWindowsSplitByThemselves holds the figures of plans whose windows are split each by
// itself against those of their placements, whatever else is asked.
func TestWindowsSplitByThemselves(t *testing.T) {
	const experts, gpus = 6, 4
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 17))
		p := Problem{Replicas: 12, Topology: placement.Topology{GPUs: gpus, Nodes: 2}}
		for range 2 + r.IntN(3) {
			w := placement.NewLoads(2, experts)
			for l := range w {
				for e := range w[l] {
					w[l][e] = float64(r.IntN(3) * r.IntN(90))
				}
			}
			p.Windows = append(p.Windows, w)
		}
		ways := map[string]func(p *Problem){
			"any":        func(*Problem) {},
			"groups":     func(p *Problem) { p.Groups = 2 },
			"everywhere": func(p *Problem) { p.Everywhere = []int{4} },
			"routes": func(p *Problem) {
				p.Routes = &placement.Routes{TopK: 2, IDs: [][]uint16{{0, 1, 2, 3, 1, 4}, {5, 0, 1, 3, 2, 5}}}
			},
			"shapes": func(p *Problem) { p.LayerReplicas = []int{12, 10} },
		}
		for how, ask := range ways {
			q := p
			ask(&q)
			got, err := Plan(context.Background(), q, Options{Dispatch: Split})
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, how, err)
			}
			for l, row := range got.Placement.PhysicalToLogical {
				if slices.Contains(row, -1) {
					continue // is told as split evenly
				}
				most, all := 0.0, 0.0
				for _, w := range p.Windows {
					sum := 0.0
					for _, x := range w[l] {
						sum += x
					}
					if sum > 0 {
						most += sum * splitImbalance(&got.Placement, &q.Topology, l, w[l])
						all += sum
					}
				}
				if want := most / all; all > 0 && math.Abs(got.Layers[l].Imbalance-want) > 1e-9 {
					t.Errorf("seed %d, %s, layer %d: told %v, is %v", seed, how, l, got.Layers[l].Imbalance, want)
				}
				if y := got.Layers[l]; y.LowerBound > y.Imbalance {
					t.Errorf("seed %d, %s, layer %d: %+v", seed, how, l, y)
				}
			}
		}
	}
}

// No plan is more than even, whatever rounding makes of a bound over windows.
func TestWindowsBoundIsOneAtLeast(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 0))
	p := Problem{Replicas: 12, Topology: placement.Topology{GPUs: 4}}
	for range 3 {
		w := placement.NewLoads(8, 8)
		for _, row := range w {
			for e := range row {
				row[e] = float64(1 + rng.IntN(100))
			}
		}
		p.Windows = append(p.Windows, w)
	}
	r, err := Plan(t.Context(), p, Options{Dispatch: Split})
	if err != nil {
		t.Fatal(err)
	}
	for l, y := range r.Layers {
		if y.LowerBound < 1 {
			t.Errorf("layer %d: bound %v", l, y.LowerBound)
		}
	}
}

// What groups cost is told beside the plan without them, which is as good as if it had
// been asked for: it does not end at what groups allow.
func TestFreeImbalanceOverWindows(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	p := Problem{Replicas: 40, Groups: 4, Topology: placement.Topology{GPUs: 8, Nodes: 4}}
	for range 2 {
		p.Windows = append(p.Windows, skewed(rng, 24, 32))
	}
	r, err := Plan(t.Context(), p, Options{Locality: ByGroup})
	if err != nil {
		t.Fatal(err)
	}
	free, err := Plan(t.Context(), p, Options{Locality: Free})
	if err != nil {
		t.Fatal(err)
	}
	for l, x := range r.Locality.FreeImbalance {
		if want := free.Layers[l].Imbalance; x > want+1e-12 {
			t.Errorf("layer %d: %v without groups, where a plan without them has %v", l, x, want)
		}
	}
}
