package placement

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// random is a valid placement with, at times, uneven slots, empty ones and an
// order of replicas of its own.
func random(rng *rand.Rand) Placement {
	p := Placement{Experts: 1 + rng.IntN(8), GPUs: 1 + rng.IntN(5)}
	each := (p.Experts+p.GPUs-1)/p.GPUs + rng.IntN(3)
	slots := p.GPUs * each
	if rng.IntN(2) == 0 {
		p.GPUSlots = make([]int, p.GPUs)
		for range slots {
			p.GPUSlots[rng.IntN(p.GPUs)]++
		}
	}
	for range 1 + rng.IntN(3) {
		row := make([]int, slots)
		for s, at := range rng.Perm(slots) {
			switch {
			case s < p.Experts:
				row[at] = s
			default:
				row[at] = rng.IntN(p.Experts+1) - 1
			}
		}
		p.PhysicalToLogical = append(p.PhysicalToLogical, row)
	}
	if rng.IntN(2) == 0 {
		for _, row := range p.PhysicalToLogical {
			rank := make([]int, slots)
			next := make([]int, p.Experts)
			for _, s := range rng.Perm(slots) {
				if e := row[s]; e >= 0 {
					rank[s] = next[e]
					next[e]++
				}
			}
			p.ReplicaRank = append(p.ReplicaRank, rank)
		}
	}
	return p
}

// The two maps and the counts say the same, whatever the placement.
func TestMaps(t *testing.T) {
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range 2000 {
		p := random(rng)
		if err := p.Validate(); err != nil {
			t.Fatalf("seed %d, case %d: %v", seed, n, err)
		}
		count, log2phy := p.LogicalCount(), p.LogicalToPhysical()
		if p.MaxReplicas() != len(log2phy[0][0]) {
			t.Fatalf("seed %d, case %d: width %d, want %d", seed, n, len(log2phy[0][0]), p.MaxReplicas())
		}
		for l, row := range p.PhysicalToLogical {
			back := make([]int, len(row))
			for s := range back {
				back[s] = -1
			}
			for e, slots := range log2phy[l] {
				for k, s := range slots {
					switch {
					case (s >= 0) != (k < count[l][e]):
						t.Fatalf("seed %d, case %d: layer %d, expert %d has %d replicas, listed %v", seed, n, l, e, count[l][e], slots)
					case s >= 0 && p.ReplicaRank != nil && p.ReplicaRank[l][s] != k:
						t.Fatalf("seed %d, case %d: slot %d of rank %d listed as %d", seed, n, s, p.ReplicaRank[l][s], k)
					case s >= 0:
						back[s] = e
					}
				}
			}
			if d := cmp.Diff(row, back); d != "" {
				t.Fatalf("seed %d, case %d, layer %d:\n%s", seed, n, l, d)
			}
		}
		q := p.Clone()
		q.ReplicaRank = nil
		if err := q.SetLogicalToPhysical(log2phy); err != nil {
			t.Fatalf("seed %d, case %d: %v", seed, n, err)
		}
		if d := cmp.Diff(log2phy, q.LogicalToPhysical()); d != "" {
			t.Fatalf("seed %d, case %d: the order of replicas is lost:\n%s", seed, n, d)
		}
	}
}

func TestDuplicates(t *testing.T) {
	const seed = 4
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range 1000 {
		p := random(rng)
		want := 0
		first := p.FirstSlots()
		for _, row := range p.PhysicalToLogical {
			for g := range p.GPUs {
				for s := first[g]; s < first[g+1]; s++ {
					for q := first[g]; q < s; q++ {
						if row[s] >= 0 && row[q] == row[s] {
							want++
							break
						}
					}
				}
			}
		}
		if got := p.Duplicates(); got != want {
			t.Fatalf("seed %d, case %d: %d, want %d: %+v", seed, n, got, want, p)
		}
	}
}

func TestEvenSlots(t *testing.T) {
	if got := fmt.Sprint(EvenSlots(11, 4), EvenSlots(3, 5), EvenSlots(8, 2)); got != "[3 3 3 2] [1 1 1 0 0] [4 4]" {
		t.Error(got)
	}
}

func TestTrivial(t *testing.T) {
	p := Trivial(2, 3, 7, 2)
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(p.PhysicalToLogical, p.GPUSlots); got != "[[0 1 2 0 1 2 0] [0 1 2 0 1 2 0]] [4 3]" {
		t.Error(got)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	p := Placement{Experts: 2, LayerExperts: []int{2}, GPUs: 2, GPUSlots: []int{2, 1}, PhysicalToLogical: [][]int{{0, 1, 1}}, ReplicaRank: [][]int{{0, 1, 0}}}
	q := p.Clone()
	if d := cmp.Diff(p, q); d != "" {
		t.Fatal(d)
	}
	q.GPUSlots[0], q.PhysicalToLogical[0][0], q.ReplicaRank[0][0], q.LayerExperts[0] = 9, 9, 9, 9
	if got := fmt.Sprint(p); got != "{2 [2] 2 [2 1] [[0 1 1]] [[0 1 0]]}" {
		t.Error(got)
	}
}

func wantError(t *testing.T, name string, err error, kind error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || (kind != nil && !errors.Is(err, kind)) {
		t.Errorf("%s: got error %q, want one line of kind %q with %q", name, fmt.Sprint(err), fmt.Sprint(kind), want)
	}
}

func TestValidate(t *testing.T) {
	wide := make([]int, MaxSlots+1)
	for _, c := range []struct {
		name string
		p    Placement
		kind error
		want string
	}{
		{"nothing", Placement{}, ErrShape, "physical_to_logical_map: no layers"},
		{"no slots", Placement{Experts: 1, GPUs: 1, PhysicalToLogical: [][]int{{}}}, ErrShape, "layer 0: no slots"},
		{"too many layers", Placement{PhysicalToLogical: make([][]int, MaxLayers+1)}, ErrShape, "4097 layers"},
		{"too many slots", Placement{PhysicalToLogical: [][]int{wide}}, ErrShape, "layer 0: 262145 slots"},
		{"too many in all", Placement{PhysicalToLogical: repeat(wide[:MaxSlots], 257)}, ErrShape, "257 layers of 262144 slots"},
		{"no experts", Placement{GPUs: 1, PhysicalToLogical: [][]int{{0}}}, ErrValue, "num_experts: 0"},
		{"no GPUs", Placement{Experts: 1, PhysicalToLogical: [][]int{{0}}}, ErrValue, "num_gpus: 0"},
		{"uneven unsaid", Placement{Experts: 1, GPUs: 2, PhysicalToLogical: [][]int{{0, 0, 0}}}, ErrShape, "3 slots cannot be shared evenly by 2 GPUs"},
		{"GPU slots for others", Placement{Experts: 1, GPUs: 2, GPUSlots: []int{1}, PhysicalToLogical: [][]int{{0}}}, ErrShape, "1 entries for 2 GPUs"},
		{"GPU slots of another sum", Placement{Experts: 1, GPUs: 2, GPUSlots: []int{1, 0}, PhysicalToLogical: [][]int{{0, 0}}}, ErrShape, "they add up to 1 slots"},
		{"negative GPU slots", Placement{Experts: 1, GPUs: 2, GPUSlots: []int{-1, 2}, PhysicalToLogical: [][]int{{0}}}, ErrValue, "gpu_slots: index 0: -1"},
		{"GPU slots that overflow", Placement{Experts: 1, GPUs: 2, GPUSlots: []int{1 << 30, 1 << 30}, PhysicalToLogical: [][]int{{0}}}, ErrValue, "gpu_slots: index 0"},
		{"ragged", Placement{Experts: 1, GPUs: 1, PhysicalToLogical: [][]int{{0}, {0, 0}}}, ErrShape, "layer 1: 2 slots, but layer 0 has 1"},
		{"expert too large", Placement{Experts: 1, GPUs: 1, PhysicalToLogical: [][]int{{0, 1}}}, ErrValue, "layer 0, index 1: expert 1"},
		{"expert -2", Placement{Experts: 1, GPUs: 1, PhysicalToLogical: [][]int{{0, -2}}}, ErrValue, "layer 0, index 1: expert -2"},
		{"ranks of other layers", Placement{Experts: 1, GPUs: 1, PhysicalToLogical: [][]int{{0}}, ReplicaRank: [][]int{{0}, {0}}}, ErrShape, "replica_rank: 2 layers"},
		{"ranks of other slots", Placement{Experts: 1, GPUs: 1, PhysicalToLogical: [][]int{{0}}, ReplicaRank: [][]int{{}}}, ErrShape, "replica_rank: layer 0: 0 slots"},
		{"rank twice", Placement{Experts: 1, GPUs: 1, PhysicalToLogical: [][]int{{0, 0}}, ReplicaRank: [][]int{{1, 1}}}, ErrValue, "replica_rank: layer 0, index 1: rank 1"},
		{"rank too large", Placement{Experts: 2, GPUs: 1, PhysicalToLogical: [][]int{{0, 1}}, ReplicaRank: [][]int{{0, 1}}}, ErrValue, "replica_rank: layer 0, index 1: rank 1"},
	} {
		wantError(t, c.name, c.p.Validate(), c.kind, c.want)
	}
}

// A placement with empty slots and lost experts is a placement like any other.
func TestIncomplete(t *testing.T) {
	p := Placement{Experts: 4, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 3}, {0, -1, 2, 0}, {-1, -1, -1, -1}}}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.Missing(0, nil), p.Missing(1, nil), p.Missing(2, nil)); got != "[] [1 3] [0 1 2 3]" {
		t.Error(got)
	}
	if got := fmt.Sprint(p.Missing(0, []float64{0, 1}), p.Missing(1, []float64{1, 0})); got != "[0 1] [1 2 3]" {
		t.Error("with a GPU out of service:", got)
	}
	wantError(t, "incomplete", p.CheckComplete(), ErrFit, "layer 1: expert 1 has no replica")
	whole := Placement{Experts: 2, GPUs: 1, PhysicalToLogical: [][]int{{1, 0}}}
	if err := whole.CheckComplete(); err != nil {
		t.Error(err)
	}
	scores, err := p.ScoreLayers(Loads{{1, 2, 3, 4}, {6, 2, 2, 8}, {1, 1, 1, 1}}, Topology{})
	if err != nil {
		t.Fatal(err)
	}
	if s := scores[0]; s.Missing != nil || s.Imbalance != 1.4 {
		t.Error(s)
	}
	if s := scores[1]; fmt.Sprint(s.Missing) != "[1 3]" || !math.IsInf(s.Imbalance, 1) || s.Balancedness != 0 || fmt.Sprint(s.GPULoads) != "[3 5]" {
		t.Error(s)
	}
	if s := scores[2]; len(s.Missing) != 4 || !math.IsInf(s.Imbalance, 1) {
		t.Error(s)
	}
	for l := range scores { // what is on a dead GPU is not there
		scores, err := p.ScoreLayers(NewLoads(3, 4), Topology{GPUs: 2, Speed: []float64{1, 0}})
		if err != nil || fmt.Sprint(scores[l].Missing) != fmt.Sprint(p.Missing(l, []float64{1, 0})) || !math.IsInf(scores[l].Imbalance, 1) {
			t.Error(l, scores[l], err)
		}
	}
	if n, err := p.CountMoves(&p); err != nil || fmt.Sprint(n) != "[0 0 0]" {
		t.Error(n, err)
	}
	text, err := p.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var q Placement
	if err := q.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, q); d != "" {
		t.Error(d)
	}
}

func repeat(row []int, n int) [][]int {
	rows := make([][]int, n)
	for i := range rows {
		rows[i] = row
	}
	return rows
}

// A skewed placement whose padded map would not fit in memory is an error of
// its own, not a crash.
func TestCheckWidth(t *testing.T) {
	row := make([]int, MaxSlots)
	for e := range MaxExperts {
		row[e] = e
	}
	p := Placement{Experts: MaxExperts, GPUs: 1, PhysicalToLogical: [][]int{row}}
	wantError(t, "one expert has the other slots", p.CheckWidth(), ErrShape, "padded to the 196609 replicas")
	_, err := p.MarshalJSON()
	wantError(t, "as JSON", err, ErrShape, "padded to the 196609 replicas")
	q := Trivial(58, 256, 288, 32)
	if err := q.CheckWidth(); err != nil {
		t.Error(err)
	}
}

func TestCountMoves(t *testing.T) {
	p := Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 0}, {0, 0, 1, 2}, {0, 1, 2, -1}}}
	q := Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{1, 0, 0, 2}, {0, 1, 2, 2}, {1, -1, 0, 2}}}
	got, err := p.CountMoves(&q)
	// Layer 0 only changes slots within a GPU; layer 1 moves 1 to GPU 0 and a
	// second copy of 2 to GPU 1; layer 2 copies 0 to GPU 1.
	if err != nil || fmt.Sprint(got) != "[0 2 1]" {
		t.Error(got, err)
	}
	if got, err := p.CountMoves(&p); err != nil || fmt.Sprint(got) != "[0 0 0]" {
		t.Error(got, err)
	}
	r := Trivial(2, 3, 4, 2)
	_, err = p.CountMoves(&r)
	wantError(t, "other layers", err, ErrShape, "previous: 3 layers")
	_, err = p.CountMoves(&Placement{})
	wantError(t, "invalid", err, ErrShape, "no layers")
}

func TestTopology(t *testing.T) {
	h := H800(2)
	if err := h.Validate(); err != nil || h.Node(7) != 0 || h.Node(8) != 1 || h.InService() != 16 || h.SpeedOf(3) != 1 {
		t.Errorf("%+v: %v", h, err)
	}
	if PrefillUnit().GPUs != 32 || DecodeUnit().GPUs != 144 || DecodeUnit().Nodes != 18 {
		t.Error("not the published units")
	}
	inf := math.Inf(1)
	for _, c := range []struct {
		name string
		t    Topology
		kind error
		want string
	}{
		{"nothing", Topology{}, ErrValue, "num_gpus: 0"},
		{"too many GPUs", Topology{GPUs: MaxGPUs + 1}, ErrValue, "num_gpus: 65537"},
		{"nodes that do not divide", Topology{GPUs: 8, Nodes: 3}, ErrShape, "8 GPUs cannot be shared evenly by 3 nodes"},
		{"negative nodes", Topology{GPUs: 8, Nodes: -1}, ErrValue, "num_nodes: -1"},
		{"speeds of others", Topology{GPUs: 2, Speed: []float64{1}}, ErrShape, "1 speeds for 2 GPUs"},
		{"negative speed", Topology{GPUs: 2, Speed: []float64{1, -1}}, ErrValue, "gpu_speed: index 1: -1"},
		{"NaN", Topology{GPUs: 2, Speed: []float64{1, math.NaN()}}, ErrValue, "gpu_speed: index 1: NaN"},
		{"Inf", Topology{GPUs: 1, Speed: []float64{inf}}, ErrValue, "+Inf"},
		{"speed out of proportion", Topology{GPUs: 1, Speed: []float64{1e-9}}, ErrValue, "1e-09: speeds are relative"},
		{"all dead", Topology{GPUs: 2, Speed: []float64{0, 0}}, ErrFit, "all 2 GPUs are out of service"},
		{"negative bandwidth", Topology{GPUs: 1, RDMA: -1}, ErrValue, "rdma: -1"},
	} {
		wantError(t, c.name, c.t.Validate(), c.kind, c.want)
	}
}

// TestScoreRefusesLoadsOfNoExpert: tokens of experts that a layer does not have are
// left out in no silence.
func TestScoreRefusesLoadsOfNoExpert(t *testing.T) {
	p := Placement{Experts: 3, LayerExperts: []int{3, 2}, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 0}, {0, 1, 1, 0}}}
	if _, err := p.ScoreLayers(Loads{{1, 2, 3}, {1, 2, 0}}, Topology{}); err != nil {
		t.Error(err)
	}
	_, err := p.ScoreLayers(Loads{{1, 2, 3}, {1, 2, 3}}, Topology{})
	if bad := (*Error)(nil); !errors.As(err, &bad) || bad.Field != "loads" || bad.Layer != 1 || bad.Index != 2 {
		t.Errorf("%v", err)
	}
}

// Layers may have fewer experts than others: these alone need a replica.
// The largest loads on the slowest GPUs are as uneven as any that are in proportion.
func TestImbalanceOfLargeLoads(t *testing.T) {
	p := Placement{Experts: 3, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, 2}}}
	for _, top := range []Topology{{}, {GPUs: 3, Nodes: 1, Speed: []float64{1e-6, 1, 1e6}}} {
		windows := []Loads{{{3, 2, 1}}, {{1, 7, 1}}, {{4, 4, 4}}, {{2, 7, 5}}, {{6, 7, 7}}, {{7, 7, 7}}}
		for _, scale := range []float64{1, 0x1p900, 0x1p1002, 0x1p-1060} {
			var all []Loads
			for _, w := range windows {
				all = append(all, Loads{{w[0][0] * scale, w[0][1] * scale, w[0][2] * scale}})
			}
			want, err := p.ImbalanceOver(windows, top)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.ImbalanceOver(all, top)
			if err != nil || got[0] != want[0] {
				t.Errorf("%v times as large, speeds %v: %v, want %v, %v", scale, top.Speed, got, want, err)
			}
		}
	}
}

func TestLayerExperts(t *testing.T) {
	p := Placement{Experts: 3, LayerExperts: []int{3, 2}, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 0}, {0, 1, -1, 0}}}
	if err := p.Validate(); err != nil || p.CheckComplete() != nil {
		t.Fatal(err, p.CheckComplete())
	}
	if m := p.Missing(1, []float64{0, 1}); len(m) != 1 || m[0] != 1 {
		t.Errorf("without GPU 0 layer 1 misses %v", m)
	}
	scores, err := p.ScoreLayers(Loads{{1, 1, 1}, {1, 1, 0}}, Topology{GPUs: 2})
	if err != nil || scores[1].Missing != nil || scores[1].Imbalance != 1.5 {
		t.Errorf("%+v, %v", scores, err)
	}
	text, err := p.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var q Placement
	if err := q.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, q); d != "" {
		t.Error(d)
	}
	for _, c := range []struct {
		spoil func(p *Placement)
		want  string
	}{
		{func(p *Placement) { p.LayerExperts = []int{3} }, "layer_experts: 1 entries"},
		{func(p *Placement) { p.LayerExperts[1] = 4 }, "layer_experts: layer 1: 4: between 1 and 3"},
		{func(p *Placement) { p.LayerExperts[1] = 0 }, "layer_experts: layer 1: 0"},
		{func(p *Placement) { p.PhysicalToLogical[1][2] = 2 }, "physical_to_logical_map: layer 1, index 2: expert 2: there are 2"},
	} {
		q := p.Clone()
		c.spoil(&q)
		wantError(t, c.want, q.Validate(), nil, c.want)
	}
}
