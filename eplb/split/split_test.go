package split

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

func mustPlan(t *testing.T, p eplb.Problem, o eplb.Options) eplb.Result {
	t.Helper()
	r, err := eplb.Plan(t.Context(), p, o)
	if err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	return r
}

// noisy draws a batch of n tokens from loads.
func noisy(rng *rand.Rand, loads []float64, n int) []int64 {
	sum := make([]float64, len(loads))
	total := 0.0
	for e, x := range loads {
		total += x
		sum[e] = total
	}
	out := make([]int64, len(loads))
	for range n {
		e, _ := slices.BinarySearch(sum, rng.Float64()*total)
		out[min(e, len(out)-1)]++
	}
	return out
}

// randomPlacement is any valid placement, with empty slots, experts twice on a
// GPU and GPUs out of service.
func randomPlacement(rng *rand.Rand, experts, gpus, most int, speed []float64) placement.Placement {
	p := placement.Placement{Experts: experts, GPUs: gpus, GPUSlots: make([]int, gpus)}
	var row []int
	for g := range gpus {
		n := rng.IntN(most + 1)
		p.GPUSlots[g] = n
		for range n {
			e := rng.IntN(experts+1) - 1
			if speed != nil && speed[g] == 0 {
				e = -1
			}
			row = append(row, e)
		}
	}
	p.PhysicalToLogical = [][]int{row}
	return p
}

// leastLevel is the least largest load/speed of a split into whole tokens,
// found the long way: by Hall's condition on every set of GPUs.
func leastLevel(p *placement.Placement, t *placement.Topology, counts []int64) float64 {
	first := p.FirstSlots()
	holders := make([]uint, p.Experts)
	for g := range p.GPUs {
		for _, e := range p.PhysicalToLogical[0][first[g]:first[g+1]] {
			if e >= 0 {
				holders[e] |= 1 << g
			}
		}
	}
	inside := make([]int64, 1<<p.GPUs) // tokens of experts held only within the set
	for u := range inside {
		for e, h := range holders {
			if h&^uint(u) == 0 {
				inside[u] += counts[e]
			}
		}
	}
	ok := func(level float64) bool {
		for u, need := range inside {
			room := int64(0)
			for g := range p.GPUs {
				if v := t.SpeedOf(g); u>>g&1 != 0 && v > 0 {
					n := int64(0)
					for float64(n+1)/v <= level {
						n++
					}
					room += n
				}
			}
			if room < need {
				return false
			}
		}
		return true
	}
	var levels []float64
	for g := range p.GPUs {
		if v := t.SpeedOf(g); v > 0 {
			for n := range inside[len(inside)-1] + 1 {
				levels = append(levels, float64(n)/v)
			}
		}
	}
	slices.Sort(levels)
	lo, hi := 0, len(levels)-1
	for lo < hi {
		if mid := (lo + hi) / 2; ok(levels[mid]) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return levels[lo]
}

func checkQuota(t *testing.T, p *placement.Placement, top *placement.Topology, layer int, counts, quota []int64) (level float64) {
	t.Helper()
	left := slices.Clone(counts)
	first := p.FirstSlots()
	for g := range p.GPUs {
		load := int64(0)
		for i := first[g]; i < first[g+1]; i++ {
			e := p.PhysicalToLogical[layer][i]
			if quota[i] < 0 || (e < 0 && quota[i] != 0) {
				t.Fatalf("slot %d of expert %d: quota %d", i, e, quota[i])
			}
			if e >= 0 {
				left[e] -= quota[i]
			}
			load += quota[i]
		}
		if load > 0 {
			level = max(level, float64(load)/top.SpeedOf(g))
		}
	}
	for e, n := range left {
		if n != 0 {
			t.Fatalf("expert %d: %d of %d tokens left over", e, n, counts[e])
		}
	}
	return level
}

// Every split is the best in whole tokens, and said to be.
func TestSplitIsLeast(t *testing.T) {
	const seed = 1
	tried := 0
	for n := 0; tried < 10000; n++ {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		gpus := 1 + rng.IntN(5)
		top := placement.Topology{GPUs: gpus, Speed: workload.UnlikeSpeeds(rng, gpus)}
		p := randomPlacement(rng, 1+rng.IntN(7), gpus, 5, top.Speed)
		s, err := New(&p, top)
		if err != nil {
			continue // an expert without a replica, no GPU in service
		}
		tried++
		quota := make([]int64, p.Slots())
		for range 2 { // the second with used memory
			counts := make([]int64, p.Experts)
			total := int64(0)
			for e := range counts {
				counts[e] = int64(rng.IntN(1+rng.IntN(12)) * rng.IntN(2))
				total += counts[e]
			}
			got, err := s.Split(quota, 0, counts)
			if err != nil {
				t.Fatal(err)
			}
			level := checkQuota(t, &p, &top, 0, counts, quota)
			if want := leastLevel(&p, &top, counts); level != want {
				t.Fatalf("seed %d/%d: level %v, least %v: %+v %v, counts %v, quota %v", seed, n, level, want, p, top.Speed, counts, quota)
			}
			speeds := 0.0
			for g := range gpus {
				speeds += top.SpeedOf(g)
			}
			want := 1.0
			if total > 0 {
				want = level * speeds / float64(total)
			}
			if math.Abs(got.Imbalance-want) > 1e-12*want || got.LowerBound != got.Imbalance || got.Status != eplb.Proved {
				t.Fatalf("seed %d/%d: %+v, want %v", seed, n, got, want)
			}
		}
	}
}

// flowValue is the most tokens that fit: a maximum flow from the experts to the
// GPUs they are on, by shortest paths in a matrix of what is left.
func flowValue(p *placement.Placement, counts, room []int64) int64 {
	n := p.Experts + p.GPUs + 2
	source, sink := n-2, n-1
	left := make([]int64, n*n)
	first := p.FirstSlots()
	for e, c := range counts {
		left[source*n+e] = c
	}
	for g := range p.GPUs {
		left[(p.Experts+g)*n+sink] = room[g]
		for _, e := range p.PhysicalToLogical[0][first[g]:first[g+1]] {
			if e >= 0 {
				left[e*n+p.Experts+g] = counts[e]
			}
		}
	}
	value := int64(0)
	for {
		from := make([]int, n)
		for i := range from {
			from[i] = -1
		}
		todo := []int{source}
		for k := 0; k < len(todo) && from[sink] < 0; k++ {
			for i := range n {
				if i != source && from[i] < 0 && left[todo[k]*n+i] > 0 {
					from[i] = todo[k]
					todo = append(todo, i)
				}
			}
		}
		if from[sink] < 0 {
			return value
		}
		x := int64(math.MaxInt64)
		for i := sink; i != source; i = from[i] {
			x = min(x, left[from[i]*n+i])
		}
		for i := sink; i != source; i = from[i] {
			left[from[i]*n+i] -= x
			left[i*n+from[i]] += x
		}
		value += x
	}
}

// Large units: no split stays below the level, says a maximum flow.
func TestSplitLarge(t *testing.T) {
	const seed = 3
	tried := 0
	for n := range 200 {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		gpus := 1 + rng.IntN(40)
		speed := []float64(nil)
		if n%3 == 0 {
			speed = make([]float64, gpus)
			for g := range speed {
				speed[g] = .5 + rng.Float64()
			}
		}
		top := placement.Topology{GPUs: gpus, Speed: speed}
		p := randomPlacement(rng, 1+rng.IntN(60), gpus, 8, nil)
		s, err := New(&p, top)
		if err != nil {
			continue
		}
		tried++
		counts := make([]int64, p.Experts)
		total := int64(0)
		for e := range counts {
			counts[e] = int64(math.Exp(rng.Float64() * 20))
			total += counts[e]
		}
		quota := make([]int64, p.Slots())
		if _, err := s.Split(quota, 0, counts); err != nil {
			t.Fatal(err)
		}
		level := checkQuota(t, &p, &top, 0, counts, quota)
		room := make([]int64, gpus) // just below the level
		for g := range room {
			room[g] = int64(level*top.SpeedOf(g)) + 2
			for float64(room[g])/top.SpeedOf(g) >= level {
				room[g]--
			}
		}
		if flowValue(&p, counts, room) == total {
			t.Fatalf("seed %d/%d: level %v can be lowered", seed, n, level)
		}
	}
	if tried < 50 {
		t.Fatalf("only %d placements were valid", tried)
	}
}

// Counts times a whole number never stand relatively higher, and the order of
// experts does not matter.
func TestSplitMetamorphic(t *testing.T) {
	const seed = 5
	for n := range 500 {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		p := randomPlacement(rng, 1+rng.IntN(20), 1+rng.IntN(10), 6, nil)
		s, err := New(&p, placement.Topology{})
		if err != nil {
			continue
		}
		perm := rng.Perm(p.Experts)
		q := p.Clone()
		for i, e := range p.PhysicalToLogical[0] {
			if e >= 0 {
				q.PhysicalToLogical[0][i] = perm[e]
			}
		}
		r, err := New(&q, placement.Topology{})
		if err != nil {
			t.Fatal(err)
		}
		counts, permuted, sevenfold := make([]int64, p.Experts), make([]int64, p.Experts), make([]int64, p.Experts)
		for e := range counts {
			counts[e] = rng.Int64N(50)
			permuted[perm[e]] = counts[e]
			sevenfold[e] = 7 * counts[e]
		}
		dst := make([]int64, p.Slots())
		a, _ := s.Split(dst, 0, counts)
		b, _ := r.Split(dst, 0, permuted)
		c, _ := s.Split(dst, 0, sevenfold)
		if a.Imbalance != b.Imbalance || c.Imbalance > a.Imbalance*(1+1e-12) {
			t.Fatalf("seed %d/%d: %v, permuted %v, sevenfold %v", seed, n, a, b, c)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	p := placement.Trivial(2, 4, 6, 3)
	s, err := New(&p, placement.Topology{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		slots  int
		layer  int
		counts []int64
	}{
		{"layer: 2: the placement has 2", 6, 2, []int64{1, 2, 3, 4}},
		{"layer: -1: the placement has 2", 6, -1, []int64{1, 2, 3, 4}},
		{"counts: layer 1: 3 experts, but the placement has 4", 6, 1, []int64{1, 2, 3}},
		{"quota: layer 1: 5 slots, but the placement has 6", 5, 1, []int64{1, 2, 3, 4}},
		{"counts: layer 1, index 2: -3 is negative", 6, 1, []int64{1, 2, -3, 4}},
		{"counts: layer 0, index 3: 9223372036854775807: a layer's tokens add up to more than 4503599627370496", 6, 0, []int64{0, 0, 0, math.MaxInt64}},
		{"counts: layer 0, index 1: 4503599627370496: a layer's tokens add up to more than 4503599627370496", 6, 0, []int64{1, 1 << 52, 0, 0}},
	} {
		dst := make([]int64, c.slots)
		dst[0] = 7
		_, err := s.Split(dst, c.layer, c.counts)
		if err == nil || err.Error() != c.want || dst[0] != 7 {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	if _, err := New(&p, placement.Topology{GPUs: 3, Speed: []float64{1, 0, 1}}); err == nil ||
		err.Error() != "physical_to_logical_map: layer 0, index 2: expert 2 on GPU 1, which is out of service" {
		t.Error(err)
	}
	if _, err := New(&p, placement.Topology{GPUs: 2}); err == nil {
		t.Error("another number of GPUs passed")
	}
	if got, err := s.Split(make([]int64, 6), 0, []int64{1 << 52, 0, 0, 0}); err != nil || math.Abs(got.Imbalance-1.5) > 1e-9 {
		t.Error(got, err)
	}
}

func TestSplitAllocatesNothing(t *testing.T) {
	loads := workload.Zipf(2, 256, .8, 1e6, 1)
	r, err := eplb.Plan(context.Background(), eplb.Problem{Loads: loads, Replicas: 288, Topology: placement.PrefillUnit()}, eplb.Options{Locality: eplb.Free})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(&r.Placement, placement.Topology{})
	if err != nil {
		t.Fatal(err)
	}
	counts := noisy(rand.New(rand.NewPCG(1, 1)), loads[0], 1<<15)
	dst := make([]int64, 288)
	if n := testing.AllocsPerRun(100, func() { s.Split(dst, 0, counts) }); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

// Batches drawn anew, of 1,024 tokens a GPU, are even on a plan for the split.
func TestSplitPlansUnderNoise(t *testing.T) {
	for _, c := range []struct{ skew, most float64 }{{.8, 1.002}, {1.2, 1.002}} {
		loads := workload.Zipf(12, 256, c.skew, 1e6, 6)
		r, err := eplb.Plan(context.Background(), eplb.Problem{Loads: loads, Replicas: 288, Topology: placement.Topology{GPUs: 32}}, eplb.Options{Dispatch: eplb.Split})
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(&r.Placement, placement.Topology{})
		if err != nil {
			t.Fatal(err)
		}
		scores, err := r.Placement.ScoreLayers(loads, placement.Topology{})
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(13, 0))
		dst, mean := make([]int64, 288), 0.0
		for l := range loads {
			for range 4 {
				y, err := s.Split(dst, l, noisy(rng, loads[l], 32*1024))
				if err != nil {
					t.Fatal(err)
				}
				mean += y.Imbalance / float64(4*len(loads))
			}
			if scores[l].Imbalance > 1.004 {
				t.Errorf("skew %v, layer %d: %v under an even split", c.skew, l, scores[l].Imbalance)
			}
		}
		t.Logf("skew %v: %.5f", c.skew, mean)
		if mean > c.most {
			t.Errorf("skew %v: batches stand at %v, want at most %v", c.skew, mean, c.most)
		}
	}
}

// TestSplitWritesAll: slots that get nothing, empty or the second of an expert on its
// GPU, are written too, whatever dst held.
func TestSplitWritesAll(t *testing.T) {
	p := &placement.Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{0, 0, -1, 1, 1, 2, -1, 2}}}
	s, err := New(p, placement.Topology{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cost := range []float64{0, 5, math.Inf(1)} {
		s.ReadCost = cost
		dst := []int64{7, 7, 7, 7, 7, 7, 7, 7}
		if _, err := s.Split(dst, 0, []int64{4, 8, 3}); err != nil {
			t.Fatal(err)
		}
		if dst[0] != 4 || dst[1] != 0 || dst[2] != 0 || dst[3]+dst[4] != 8 || dst[5] != 3 || dst[6] != 0 || dst[7] != 0 {
			t.Errorf("read cost %v: %v", cost, dst)
		}
	}
}

// TestBatch: layers split in one layer's memory are as those of a Splitter that
// keeps all of them, whatever layer came before.
func TestBatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 0))
	for n := range 60 {
		experts, gpus, layers := 2+rng.IntN(9), 2+rng.IntN(4), 1+rng.IntN(6)
		top := placement.Topology{GPUs: gpus}
		if n%2 == 1 {
			top.Speed = make([]float64, gpus)
			for g := range top.Speed {
				top.Speed[g] = 1 + rng.Float64()
			}
		}
		p := placement.Placement{Experts: experts, GPUs: gpus}
		counts := make([][]int64, layers)
		for l := range counts {
			row := rng.Perm(experts)
			for len(row) < experts+8 || len(row)%gpus > 0 {
				// From layers with many replicated experts to some with few.
				row = append(row, rng.IntN(1+rng.IntN(experts)))
			}
			p.PhysicalToLogical = append(p.PhysicalToLogical, row[:(experts+8)/gpus*gpus])
			for range experts {
				counts[l] = append(counts[l], rng.Int64N(9)*rng.Int64N(99))
			}
		}
		s, err := New(&p, top)
		if err != nil {
			t.Fatal(err)
		}
		for _, s.ReadCost = range []float64{0, 5, math.Inf(1)} {
			quota, all, err := Batch(&p, top, counts, s.ReadCost)
			if err != nil {
				t.Fatal(err)
			}
			dst := make([]int64, p.Slots())
			for l := range counts {
				if one, err := s.Split(dst, l, counts[l]); err != nil || one != all[l] || !slices.Equal(dst, quota[l]) {
					t.Fatalf("%d, layer %d at %v: %v %v, a Splitter: %v %v, %v", n, l, s.ReadCost, all[l], quota[l], one, dst, err)
				}
			}
		}
	}
	p := placement.Trivial(2, 4, 6, 3)
	for _, c := range []struct {
		want   string
		counts [][]int64
	}{
		{"counts: 1 layers, but the placement has 2", [][]int64{{1, 2, 3, 4}}},
		{"counts: layer 1, index 0: -1 is negative", [][]int64{{1, 2, 3, 4}, {-1, 2, 3, 4}}},
	} {
		if quota, _, err := Batch(&p, placement.Topology{}, c.counts, 0); err == nil || err.Error() != c.want || quota != nil {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}
