package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestLoads(t *testing.T) {
	l, err := LoadsOf([][]int32{{0, 0, 0}, {1, 2, 3}})
	if err != nil || fmt.Sprint(l) != "[[0 0 0] [1 2 3]]" || l.Experts() != 3 {
		t.Error(l, err)
	}
	if err := l.AddWindow(Loads{{1, 0, 0}, {0, 0, 4.5}}); err != nil || fmt.Sprint(l) != "[[1 0 0] [1 2 7.5]]" {
		t.Error(l, err)
	}
	for _, w := range []Loads{nil, {{1, 2, 3}}, {{1, 2}, {1, 2}}, {{1, 2, 3}, {1, 2}}, {{1, 2, 3}, {1, 2, 3, 4}}} {
		wantError(t, fmt.Sprint(w), l.AddWindow(w), ErrShape, "loads: ")
	}
	if fmt.Sprint(l) != "[[1 0 0] [1 2 7.5]]" {
		t.Error("a refused window changed the loads:", l)
	}
	if Loads(nil).Experts() != 0 {
		t.Error("experts without layers")
	}
}

func TestLoadsHostile(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		name string
		rows [][]float64
		kind error
		want string
	}{
		{"nothing", nil, ErrShape, "loads: no layers"},
		{"no experts", [][]float64{{}}, ErrShape, "loads: layer 0: no experts"},
		{"ragged", [][]float64{{1, 2}, {1}}, ErrShape, "loads: layer 1: 1 experts, but layer 0 has 2"},
		{"negative", [][]float64{{1, 2}, {1, -4}}, ErrValue, "loads: layer 1, index 1: -4 is negative"},
		{"-Inf", [][]float64{{-inf}}, ErrValue, "-Inf is negative"},
		{"Inf", [][]float64{{inf}}, ErrValue, "+Inf is not a finite number"},
		{"NaN", [][]float64{{1, math.NaN()}}, ErrValue, "layer 0, index 1: NaN is not a finite number"},
		{"too large to add up", [][]float64{{1e305}}, ErrValue, "1e+305 is too large to add up"},
		{"too many layers", make([][]float64, MaxLayers+1), ErrShape, "no experts"},
		{"too many experts", [][]float64{make([]float64, MaxExperts+1)}, ErrShape, "65537 experts"},
	} {
		_, err := LoadsOf(c.rows)
		wantError(t, c.name, err, c.kind, c.want)
	}
	one := []float64{1}
	many := make(Loads, MaxLayers+1)
	for i := range many {
		many[i] = one
	}
	wantError(t, "too many layers", many.Validate(), ErrShape, "4097 layers")
}

func TestImbalance(t *testing.T) {
	for _, c := range []struct {
		load, speed []float64
		want        float64
	}{
		{[]float64{1, 1, 1, 1}, nil, 1},
		{[]float64{4, 0, 0, 0}, nil, 4},
		{[]float64{0, 0}, nil, 1},
		{[]float64{2, 1}, []float64{2, 1}, 1},
		{[]float64{1, 2}, []float64{2, 1}, 2},
		{[]float64{3, 1, 0}, []float64{1, 1, 0}, 1.5}, // the dead GPU counts neither as load nor as speed
		{[]float64{0, 0}, []float64{1, 0}, 1},
		{[]float64{1e308, 0}, nil, 2},
		{[]float64{1e308, 0}, []float64{1, 1}, 2},
	} {
		if got := Imbalance(c.load, c.speed); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v over %v: %v, want %v", c.load, c.speed, got, c.want)
		}
	}
}

// A second, plain way to the same scores.
func TestScoreLayers(t *testing.T) {
	const seed = 5
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range 1000 {
		p := random(rng)
		loads := NewLoads(len(p.PhysicalToLogical), p.Experts)
		for l := range loads {
			for e := range loads[l] {
				loads[l][e] = float64(rng.IntN(5))
			}
		}
		top := Topology{GPUs: p.GPUs}
		if rng.IntN(2) == 0 {
			top.Speed = make([]float64, p.GPUs)
			for g := range top.Speed {
				top.Speed[g] = 0.5 + rng.Float64()
			}
		}
		scores, err := p.ScoreLayers(loads, top)
		if err != nil {
			t.Fatal(err)
		}
		first := p.FirstSlots()
		for l, row := range p.PhysicalToLogical {
			var total, speeds, most float64
			for g := range p.GPUs {
				sum := 0.0
				for _, e := range row[first[g]:first[g+1]] {
					holders := 0
					for _, f := range row {
						if e >= 0 && f == e {
							holders++
						}
					}
					if holders > 0 {
						sum += loads[l][e] / float64(holders)
					}
				}
				total, speeds, most = total+sum, speeds+top.SpeedOf(g), max(most, sum/top.SpeedOf(g))
				if math.Abs(sum-scores[l].GPULoads[g]) > 1e-9 {
					t.Fatalf("seed %d, case %d: GPU %d has %v, want %v", seed, n, g, scores[l].GPULoads[g], sum)
				}
			}
			want := 1.0
			if total > 0 {
				want = most / (total / speeds)
			}
			if math.Abs(scores[l].Imbalance-want) > 1e-9 || math.Abs(scores[l].Balancedness-1/want) > 1e-9 {
				t.Fatalf("seed %d, case %d, layer %d: %+v, want %v", seed, n, l, scores[l], want)
			}
		}
	}
}

func TestScoreLayersErrors(t *testing.T) {
	p := Trivial(2, 2, 4, 2)
	good := Loads{{1, 2}, {3, 4}}
	for _, c := range []struct {
		name  string
		p     Placement
		loads Loads
		t     Topology
		kind  error
		want  string
	}{
		{"invalid placement", Placement{}, good, Topology{}, ErrShape, "no layers"},
		{"invalid loads", p, Loads{{-1, 1}, {1, 1}}, Topology{}, ErrValue, "-1 is negative"},
		{"invalid topology", p, good, Topology{GPUs: -1}, ErrValue, "num_gpus: -1"},
		{"other GPUs", p, good, Topology{GPUs: 3}, ErrShape, "the placement has 2, the topology 3"},
		{"other layers", p, good[:1], Topology{}, ErrShape, "1 layers, but the placement has 2"},
		{"other experts", p, Loads{{1, 2, 3}, {1, 2, 3}}, Topology{}, ErrShape, "3 experts, but the placement has 2"},
	} {
		_, err := c.p.ScoreLayers(c.loads, c.t)
		wantError(t, c.name, err, c.kind, c.want)
	}
	dead := Placement{Experts: 2, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, 0, -1, -1, 1}}}
	dead.PhysicalToLogical[0] = []int{0, 1, -1, -1, 0, 1}
	s, err := dead.ScoreLayers(Loads{{2, 6}}, Topology{GPUs: 3, Speed: []float64{1, 0, 1}})
	if err != nil || s[0].Imbalance != 1 || s[0].GPULoads[1] != 0 {
		t.Error(s, err)
	}
}
