package split

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/internal/flow"
	"github.com/moelb/moelb/placement"
)

// leastCost is the least largest (reads·price + tokens)/speed over every split
// into whole tokens, by enumeration; with price +Inf the least largest
// reads/speed.
func leastCost(p *placement.Placement, t *placement.Topology, counts []int64, price float64) float64 {
	first := p.FirstSlots()
	holders := make([][]int, p.Experts)
	for g := range p.GPUs {
		for _, e := range p.PhysicalToLogical[0][first[g]:first[g+1]] {
			if e >= 0 && !slices.Contains(holders[e], g) {
				holders[e] = append(holders[e], g)
			}
		}
	}
	tokens, reads := make([]int64, p.GPUs), make([]int64, p.GPUs)
	cost := func(g int) float64 {
		c := float64(reads[g])
		if !math.IsInf(price, 1) {
			c = price*c + float64(tokens[g])
		}
		if c == 0 {
			return 0
		}
		return c / t.SpeedOf(g)
	}
	best := math.Inf(1)
	var rec func(e, i int, left int64)
	rec = func(e, i int, left int64) {
		if e == p.Experts {
			top := 0.0
			for g := range p.GPUs {
				top = max(top, cost(g))
			}
			best = min(best, top)
			return
		}
		if left == 0 || i == len(holders[e]) {
			if left == 0 {
				n := int64(0)
				if e+1 < p.Experts {
					n = counts[e+1]
				}
				rec(e+1, 0, n)
			}
			return
		}
		g := holders[e][i]
		for n := range left + 1 {
			tokens[g] += n
			reads[g] += min(n, 1)
			if cost(g) < best {
				rec(e, i+1, left-n)
			}
			tokens[g] -= n
			reads[g] -= min(n, 1)
		}
	}
	rec(0, 0, counts[0])
	return best
}

// splitCost is the largest cost of a GPU under a split.
func splitCost(p *placement.Placement, t *placement.Topology, quota []int64, price float64) (top float64) {
	first := p.FirstSlots()
	for g := range p.GPUs {
		n, reads := int64(0), int64(0)
		for _, q := range quota[first[g]:first[g+1]] {
			n += q
			reads += min(q, 1)
		}
		c := float64(reads)
		if !math.IsInf(price, 1) {
			c = price*c + float64(n)
		}
		if c > 0 {
			top = max(top, c/t.SpeedOf(g))
		}
	}
	return top
}

func TestReadsAgainstEnumeration(t *testing.T) {
	const seed = 1
	tried, best, worst := 0, 0, 1.0
	for n := 0; tried < 3000; n++ {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		gpus := 1 + rng.IntN(4)
		top := placement.Topology{GPUs: gpus, Speed: workload.UnlikeSpeeds(rng, gpus)}
		p := randomPlacement(rng, 1+rng.IntN(5), gpus, 4, top.Speed)
		s, err := New(&p, top)
		if err != nil {
			continue
		}
		tried++
		counts := make([]int64, p.Experts)
		active, total := 0.0, 0.0
		for e := range counts {
			counts[e] = int64(rng.IntN(5))
			active += float64(min(counts[e], 1))
			total += float64(counts[e])
		}
		s.ReadCost = []float64{.5, 2, 10, math.Inf(1)}[rng.IntN(4)]
		quota := make([]int64, p.Slots())
		got, err := s.Split(quota, 0, counts)
		if err != nil {
			t.Fatal(err)
		}
		checkQuota(t, &p, &top, 0, counts, quota)
		level := splitCost(&p, &top, quota, s.ReadCost)
		want := leastCost(&p, &top, counts, s.ReadCost)
		speeds := 0.0
		for g := range gpus {
			speeds += top.SpeedOf(g)
		}
		mean := active / speeds
		if !math.IsInf(s.ReadCost, 1) {
			mean = (s.ReadCost*active + total) / speeds
		}
		where := fmt.Sprintf("seed %d/%d: read cost %v, %+v, speeds %v, counts %v, quota %v", seed, n, s.ReadCost, p, top.Speed, counts, quota)
		if total == 0 {
			if got.Imbalance != 1 || got.Status != eplb.Proved {
				t.Fatalf("%s: %+v", where, got)
			}
			continue
		}
		if math.Abs(got.Imbalance-level/mean) > 1e-9*got.Imbalance {
			t.Fatalf("%s: imbalance %v, but the split's is %v", where, got.Imbalance, level/mean)
		}
		if got.LowerBound > want/mean*(1+1e-9) || level < want*(1-1e-9) {
			t.Fatalf("%s: bound %v, least %v, got %v", where, got.LowerBound, want/mean, got.Imbalance)
		}
		if math.IsInf(s.ReadCost, 1) && (level > want*(1+1e-12) || got.Status != eplb.Proved) {
			t.Fatalf("%s: %v reads/speed, the fewest are %v", where, level, want)
		}
		if level <= want*(1+1e-9) {
			best++
		}
		worst = max(worst, level/want)
	}
	t.Logf("seed %d: %d of %d the least, the worst %.3f times it", seed, best, tried, worst)
	if best*100 < tried*90 || worst > 1.2 {
		t.Errorf("seed %d: only %d of %d are the least, the worst %.3f times it", seed, best, tried, worst)
	}
}

func TestReadsAllocateNothing(t *testing.T) {
	loads := workload.Zipf(1, 256, .8, 1e6, 1)
	r, err := eplb.Plan(t.Context(), eplb.Problem{Loads: loads, Replicas: 288, Topology: placement.DecodeUnit()}, eplb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(&r.Placement, placement.Topology{})
	if err != nil {
		t.Fatal(err)
	}
	counts := noisy(rand.New(rand.NewPCG(1, 1)), loads[0], 1<<10)
	dst := make([]int64, 288)
	for _, s.ReadCost = range []float64{100, math.Inf(1)} {
		if n := testing.AllocsPerRun(100, func() { s.Split(dst, 0, counts) }); n != 0 {
			t.Errorf("read cost %v: %v allocations a batch", s.ReadCost, n)
		}
	}
}

func TestReadsRefuse(t *testing.T) {
	p := placement.Trivial(1, 4, 6, 3)
	s, err := New(&p, placement.Topology{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s.ReadCost = range []float64{-1, math.NaN(), math.Inf(-1), 1e300} {
		dst := []int64{7, 0, 0, 0, 0, 0}
		if _, err := s.Split(dst, 0, []int64{1, 2, 3, 4}); err == nil || dst[0] != 7 {
			t.Errorf("read cost %v passed", s.ReadCost)
		}
	}
	// The largest counts and costs add up.
	for _, s.ReadCost = range []float64{1e-300, 1, flow.MaxTokens, math.Inf(1)} {
		for _, n := range []int64{1, 1 << 51} {
			dst := make([]int64, 6)
			got, err := s.Split(dst, 0, []int64{n, 0, 0, n})
			if err != nil || !(got.Imbalance >= got.LowerBound && got.LowerBound >= 1) {
				t.Errorf("read cost %v, %d tokens: %+v, %v", s.ReadCost, n, got, err)
			}
		}
	}
}

// BenchmarkReads splits decode batches of so many tokens a GPU, and reports the
// largest number of activated experts, the largest cost at 100 tokens a read, and
// how far above its bound a split is.
func BenchmarkReads(b *testing.B) {
	for _, gpus := range []int{32, 144} {
		for _, batch := range []int{8, 64} {
			for _, price := range []float64{0, 100, math.Inf(1)} {
				b.Run(fmt.Sprintf("experts=256/slots=288/gpus=%d/tokens=%d/read=%v", gpus, batch*gpus, price), func(b *testing.B) {
					loads := workload.Zipf(58, 256, .8, 1e6, 1)
					unit := placement.Topology{GPUs: gpus}
					r, err := eplb.Plan(b.Context(), eplb.Problem{Loads: loads, Replicas: 288, Topology: unit}, eplb.Options{})
					if err != nil {
						b.Fatal(err)
					}
					s, err := New(&r.Placement, unit)
					if err != nil {
						b.Fatal(err)
					}
					s.ReadCost = price
					rng := rand.New(rand.NewPCG(2, 0))
					counts := make([][]int64, 58)
					for l := range counts {
						counts[l] = noisy(rng, loads[l], batch*gpus)
					}
					dst := make([]int64, 288)
					reads, cost, ratio := 0.0, 0.0, 0.0
					for l, c := range counts {
						y, err := s.Split(dst, l, c)
						if err != nil {
							b.Fatal(err)
						}
						q := r.Placement
						q.PhysicalToLogical = q.PhysicalToLogical[l : l+1]
						reads += splitCost(&q, &unit, dst, math.Inf(1)) / 58
						cost += splitCost(&q, &unit, dst, 100) / 58
						ratio += y.Imbalance / y.LowerBound / 58
					}
					b.ReportAllocs()
					n := 0
					for b.Loop() {
						s.Split(dst, n%58, counts[n%58])
						n++
					}
					b.ReportMetric(reads, "reads")
					b.ReportMetric(cost, "tokens+100reads")
					b.ReportMetric(ratio, "x-bound")
				})
			}
		}
	}
}

// Experts are read whole: three of one token each on two GPUs are two reads on one, which
// is the bound where reads cost far more than tokens.
func TestReadsBoundByWholeReads(t *testing.T) {
	p := placement.Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 0, 1, 2}}}
	_, layers, err := Batch(&p, placement.Topology{}, [][]int64{{1, 1, 1}}, 1000)
	if err != nil || layers[0].LowerBound < 2000/1501.5-1e-9 || layers[0].LowerBound > 2002/1501.5 {
		t.Errorf("%+v, %v", layers, err)
	}
}
