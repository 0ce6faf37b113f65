package eplb

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// skewed draws integer loads of about 1/rank, without a function of package
// math, so that they are the same everywhere.
func skewed(r *rand.Rand, layers, experts int) placement.Loads {
	loads := placement.NewLoads(layers, experts)
	for _, row := range loads {
		for i, e := range r.Perm(experts) {
			row[e] = float64((1<<30 + r.Int64N(1<<29)) / int64(i+2))
		}
	}
	return loads
}

// shapes are small and large layers of every make.
func shapes() []Problem {
	r := rand.New(rand.NewPCG(4, 0))
	slow := placement.Topology{GPUs: 8, Speed: []float64{1, 1, .5, 1, 0, 1, 2, 1}}
	return []Problem{
		{Loads: skewed(r, 6, 256), Replicas: 288, Topology: placement.PrefillUnit()},
		{Loads: skewed(r, 4, 256), Replicas: 288, Topology: placement.DecodeUnit()},
		{Loads: skewed(r, 4, 256), Replicas: 288, Topology: placement.Topology{GPUs: 96}},
		{Loads: skewed(r, 4, 64), Replicas: 75, Topology: slow},
		{Loads: skewed(r, 4, 16), Replicas: 27, Topology: slow},
		{Loads: skewed(r, 20, 8), Replicas: 13, Topology: placement.Topology{GPUs: 4}},
		{Loads: skewed(r, 3, 5), Replicas: 16, Topology: placement.Topology{GPUs: 2}},
		{Loads: placement.NewLoads(2, 256), Replicas: 300, Topology: placement.PrefillUnit()},
		// Imbalances of billions, times which a number of draws does not fit an int of 32 bits.
		{Loads: skewed(r, 2, 38), Replicas: 45, Topology: placement.Topology{GPUs: 5, Speed: []float64{1, 1e-6, 1, 1, 1e6}}},
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// printed is a result, one line a layer: its figures with all their digits, its
// replicas and its slots, of which a checksum stands for what is too long to read.
func printed(shape int, r Result) string {
	var b strings.Builder
	for l, row := range r.Placement.PhysicalToLogical {
		x := r.Layers[l]
		fmt.Fprintf(&b, "shape %d, layer %d: imbalance %v, lower bound %v, %v, replicas %s, slots %s\n", shape, l, x.Imbalance, x.LowerBound, x.Status, brief(r.Placement.LogicalCount()[l]), brief(row))
	}
	return b.String()
}

// brief is up to 32 numbers as they are, and the checksum of more.
func brief(row []int) string {
	if len(row) <= 32 {
		return fmt.Sprint(row)
	}
	h := fnv.New32a()
	fmt.Fprint(h, row)
	return fmt.Sprintf("%08x", h.Sum32())
}

// The plans of a fixed workload, digit for digit: on every platform and with any
// number of workers. Where the search is improved on purpose they change, and
// -update writes them anew.
func TestSameBytesEverywhere(t *testing.T) {
	var got strings.Builder
	for i, p := range shapes() {
		one, eight := mustPlan(t, p, Options{Workers: 1}), mustPlan(t, p, Options{Workers: 8})
		if d := cmp.Diff(one, eight); d != "" {
			t.Errorf("shape %d: 1 and 8 workers differ:\n%s", i, d)
		}
		got.WriteString(printed(i, one))
	}
	const file = "testdata/plans.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(got.String(), "\n") {
		was, rest, _ := strings.Cut(string(want), "\n")
		if want = []byte(rest); line != was {
			t.Errorf("line %d of %s (-update writes it anew):\n  was %s\n  now %s", i+1, file, was, line)
		}
	}
}

func TestInputUnchanged(t *testing.T) {
	for i, p := range shapes() {
		p.Topology.Nodes = 0
		q := p
		q.Loads = make(placement.Loads, len(p.Loads))
		for l := range p.Loads {
			q.Loads[l] = slices.Clone(p.Loads[l])
		}
		q.Topology.Speed = slices.Clone(p.Topology.Speed)
		mustPlan(t, p, Options{})
		if d := cmp.Diff(q, p); d != "" {
			t.Errorf("shape %d:\n%s", i, d)
		}
	}
}

func TestPermutedExperts(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 0))
	for i, p := range shapes() {
		perm := r.Perm(p.Loads.Experts())
		q := p
		q.Loads = placement.NewLoads(len(p.Loads), len(perm))
		for l, row := range p.Loads {
			for e, x := range row {
				q.Loads[l][perm[e]] = x
			}
		}
		if d := cmp.Diff(mustPlan(t, p, Options{}).Layers, mustPlan(t, q, Options{}).Layers); d != "" {
			t.Errorf("shape %d: other experts' numbers, other layers:\n%s", i, d)
		}
	}
}

func TestScaledLoads(t *testing.T) {
	for i, p := range shapes() {
		want := mustPlan(t, p, Options{})
		for _, scale := range []float64{1. / 1024, 1 << 20, 0x1p-1000, 0x1p900} {
			q := p
			q.Loads = placement.NewLoads(len(p.Loads), p.Loads.Experts())
			for l, row := range p.Loads {
				for e, x := range row {
					q.Loads[l][e] = x * scale
				}
			}
			if d := cmp.Diff(want, mustPlan(t, q, Options{})); d != "" {
				t.Errorf("shape %d scaled by %v:\n%s", i, scale, d)
			}
		}
	}
}

func TestOtherLayersDoNotMatter(t *testing.T) {
	for i, p := range shapes() {
		want := mustPlan(t, p, Options{})
		q := p
		q.Loads = append(placement.Loads{make([]float64, p.Loads.Experts())}, p.Loads...)
		got := mustPlan(t, q, Options{})
		if d := cmp.Diff(want.Layers, got.Layers[1:]); d != "" {
			t.Errorf("shape %d with a layer without load before it:\n%s", i, d)
		}
		if d := cmp.Diff(want.Placement.PhysicalToLogical, got.Placement.PhysicalToLogical[1:]); d != "" {
			t.Errorf("shape %d with a layer without load before it:\n%s", i, d)
		}
	}
}

// More slots only make room for more replicas. (The optimum may rise all the
// same: every slot is filled, and an expert's further replica may be in the way.)
func TestMoreSlotsLowerTheReplicaBound(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 0))
	for i := range 200 {
		p, kind := drawAny(r, i)
		experts, last := p.Loads.Experts(), math.Inf(1)
		for range 6 {
			s := pack.New(problem.NewUnit(&p.Topology, p.Replicas, experts), experts)
			s.SetLoads(p.Loads[0])
			bound := bounds.Even(s)
			if bound > last*(1+1e-12) {
				t.Fatalf("instance %d (%s) %v: bound %v with %d slots, %v with fewer", i, kind, p, bound, p.Replicas, last)
			}
			last = bound
			p.Replicas++
		}
	}
}

func TestLayersWithoutLoad(t *testing.T) {
	for _, p := range []Problem{
		{Loads: placement.NewLoads(3, 256), Replicas: 288, Topology: placement.PrefillUnit()},
		{Loads: placement.NewLoads(3, 256), Replicas: 288, Topology: placement.DecodeUnit()},
		{Loads: placement.NewLoads(3, 7), Replicas: 26, Topology: placement.Topology{GPUs: 5}},
		{Loads: placement.NewLoads(3, 7), Replicas: 26, Topology: placement.Topology{GPUs: 5, Speed: []float64{1, 2, 0, 3, 1}}},
	} {
		r := mustPlan(t, p, Options{})
		checkPlan(t, p, r)
		for l, count := range r.Placement.LogicalCount() {
			if slices.Max(count)-slices.Min(count) > 1 {
				t.Errorf("%d experts, %d slots: replicas %v", p.Loads.Experts(), p.Replicas, count)
			}
			if want := (Layer{Imbalance: 1, LowerBound: 1, Status: Proved}); r.Layers[l] != want {
				t.Errorf("%+v, not %+v", r.Layers[l], want)
			}
		}
	}
}

// countdown is a context that ends after so many looks at it.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestStopped(t *testing.T) {
	for i, p := range shapes() {
		full := mustPlan(t, p, Options{Tolerance: -1})
		for _, looks := range []int{0, 1, 5, 40, 1000} {
			r, err := Plan(&countdown{context.Background(), looks}, p, Options{Workers: 1, Tolerance: -1})
			if err != nil {
				t.Fatal(err)
			}
			checkPlan(t, p, r)
			for l, x := range r.Layers {
				if looks == 0 && x.Status == Feasible {
					t.Errorf("shape %d, layer %d: %v although stopped at once", i, l, x.Status)
				}
				if x.Imbalance < full.Layers[l].LowerBound*(1-1e-9) || full.Layers[l].Imbalance > x.Imbalance*(1+1e-9) {
					t.Errorf("shape %d, layer %d: stopped %+v, in full %+v", i, l, x, full.Layers[l])
				}
			}
		}
	}
}

// Large inputs take a second or two.
func TestLargeInputs(t *testing.T) {
	long.Only(t)
	r := rand.New(rand.NewPCG(7, 0))
	for _, c := range []struct {
		layers, experts, gpus, slots int
		speeds                       bool
	}{
		{placement.MaxLayers, 8, 4, 12, false},
		{placement.MaxLayers, 8, 8, 20, true},
		{1, placement.MaxExperts, 1000, 72000, false},
		{1, placement.MaxExperts, 1000, 72000, true},
		{1, placement.MaxExperts, 4, placement.MaxSlots, false},
		{1, 256, placement.MaxGPUs, placement.MaxSlots, false},
		{1, 2, 2, placement.MaxSlots, false},
		{1, 1 << 14, 1 << 14, 1 << 15, false},
		{1, 300, 800, 239200, true}, // every expert on nearly every GPU
	} {
		t.Run(fmt.Sprintf("layers=%d/experts=%d/gpus=%d/slots=%d/speeds=%v", c.layers, c.experts, c.gpus, c.slots, c.speeds), func(t *testing.T) {
			p := Problem{Loads: skewed(r, c.layers, c.experts), Replicas: c.slots, Topology: placement.Topology{GPUs: c.gpus}}
			for g := 0; c.speeds && g < c.gpus; g++ {
				p.Topology.Speed = append(p.Topology.Speed, 1+float64(g%7)/8)
			}
			res := mustPlan(t, p, Options{})
			checkPlan(t, p, res)
			t.Logf("imbalance %.6f, bound %.6f", res.Layers[0].Imbalance, res.Layers[0].LowerBound)
		})
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte{9, 5, 1, 0}, uint8(6), uint8(2), uint8(0))
	f.Add([]byte{1, 1, 1, 1, 1, 200}, uint8(13), uint8(4), uint8(7))
	f.Add([]byte{0, 0, 3}, uint8(20), uint8(3), uint8(0x92))
	f.Fuzz(func(t *testing.T, loads []byte, slots, gpus, speeds uint8) {
		if len(loads) > 24 || gpus > 12 {
			return
		}
		row := make([]float64, len(loads))
		for e, b := range loads {
			row[e] = float64(b)
		}
		p := Problem{Loads: placement.Loads{row}, Replicas: int(slots % 64), Topology: placement.Topology{GPUs: int(gpus)}}
		if speeds > 0 {
			for g := range int(gpus) {
				p.Topology.Speed = append(p.Topology.Speed, float64(speeds>>(g%8)&3)/2)
			}
		}
		r, err := Plan(context.Background(), p, Options{Workers: 1})
		if err != nil {
			return
		}
		checkPlan(t, p, r)
	})
}
