package split

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize/convex/lp"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
)

// program is a linear program in standard form: cost·x is least with rows·x =
// right, x ≥ 0.
type program struct {
	cost, right []float64
	rows        []map[int]float64
}

// add adds a row: the sum of coefficients times variables equals right.
func (l *program) add(right float64, row map[int]float64) {
	l.rows, l.right = append(l.rows, row), append(l.right, right)
}

// solve returns the least cost, to about 1e-6; false = the solver gave up. It may
// run in circles where more rows meet in a vertex than it has edges, so each row
// is moved a little.
func (l *program) solve() (float64, bool) {
	rng := rand.New(rand.NewPCG(uint64(len(l.rows)), 1))
	for i := range l.right {
		l.right[i] += 1e-7 * rng.Float64()
	}
	a := mat.NewDense(len(l.rows), len(l.cost), nil)
	for i, row := range l.rows {
		for j, x := range row {
			a.Set(i, j, x)
		}
	}
	least, _, err := lp.Simplex(l.cost, a, l.right, 1e-9, nil)
	return least, err == nil
}

// arcs are the GPU and expert pairs of a layer, each once.
func arcs(p *placement.Placement, layer int) (out [][2]int) {
	first := p.FirstSlots()
	for g := range p.GPUs {
		seen := map[int]bool{}
		for _, e := range p.PhysicalToLogical[layer][first[g]:first[g+1]] {
			if e >= 0 && !seen[e] {
				seen[e] = true
				out = append(out, [2]int{g, e})
			}
		}
	}
	return out
}

// simplexMean is the least mean over windows of the largest load/speed of a GPU,
// over total load / total speed, by the simplex method.
func simplexMean(p *placement.Placement, top *placement.Topology, windows [][]float64) (float64, bool) {
	pairs := arcs(p, 0)
	// Variables: a share of each pair, a level of each window, a slack of each
	// window and GPU.
	level := len(pairs)
	slack := level + len(windows)
	l := program{cost: make([]float64, slack+len(windows)*p.GPUs)}
	for e := range p.Experts {
		row := map[int]float64{}
		for i, x := range pairs {
			if x[1] == e {
				row[i] = 1
			}
		}
		l.add(1, row)
	}
	speeds := 0.0
	for g := range p.GPUs {
		speeds += top.SpeedOf(g)
	}
	for k, w := range windows {
		total := 0.0
		for _, x := range w {
			total += x
		}
		l.cost[level+k] = 1 / float64(len(windows))
		for g := range p.GPUs {
			row := map[int]float64{slack + k*p.GPUs + g: 1, level + k: -top.SpeedOf(g) / speeds}
			for i, x := range pairs {
				if x[0] == g {
					row[i] = w[x[1]] / total
				}
			}
			l.add(0, row)
		}
	}
	return l.solve()
}

// The split of a batch and static weights against the simplex method of a library
// that knows nothing of either.
func TestAgainstSimplex(t *testing.T) {
	batches, weights := 0, 0
	for n := range uint64(800) {
		rng := rand.New(rand.NewPCG(n, 22))
		gpus := 2 + rng.IntN(4)
		top := placement.Topology{GPUs: gpus, Speed: workload.UnlikeSpeeds(rng, gpus)}
		p := randomPlacement(rng, 2+rng.IntN(6), gpus, 4, top.Speed)
		s, err := New(&p, top)
		if err != nil {
			continue
		}
		counts := make([]int64, p.Experts)
		batch := make([]float64, p.Experts)
		for e := range counts {
			counts[e] = 1 + rng.Int64N(1000)
			batch[e] = float64(counts[e])
		}
		least, ok := simplexMean(&p, &top, [][]float64{batch})
		if !ok {
			continue
		}
		batches++
		quota := make([]int64, p.Slots())
		layer, err := s.Split(quota, 0, counts)
		if err != nil {
			t.Fatal(err)
		}
		// Tokens are whole: the level is above that of fractions by less than a token
		// on a GPU of the least speed.
		total, slowest, speeds := 0.0, math.Inf(1), 0.0
		for _, x := range batch {
			total += x
		}
		for g := range gpus {
			if v := top.SpeedOf(g); v > 0 {
				slowest, speeds = min(slowest, v), speeds+v
			}
		}
		token := 1 / slowest / (total / speeds)
		if layer.Imbalance < least-1e-5 || layer.Imbalance > least+token+1e-5 {
			t.Errorf("%d: a batch at %.7f, the simplex method at %.7f, a token is %.2g", n, layer.Imbalance, least, token)
		}

		windows := make([]placement.Loads, 1+rng.IntN(3))
		plain := make([][]float64, len(windows))
		for k := range windows {
			plain[k] = make([]float64, p.Experts)
			for e := range plain[k] {
				plain[k][e] = 1 + math.Floor(100*rng.ExpFloat64())
			}
			windows[k] = placement.Loads{plain[k]}
		}
		if least, ok = simplexMean(&p, &top, plain); !ok {
			continue
		}
		_, layers, err := StaticWeights(&p, top, windows)
		if err != nil {
			t.Fatal(err)
		}
		weights++
		if x := layers[0]; x.LowerBound > least+1e-5 || x.Imbalance < least-1e-5 || x.Imbalance > least*1.0005 {
			t.Errorf("%d: weights at %.7f, bound %.7f, the simplex method at %.7f", n, x.Imbalance, x.LowerBound, least)
		}
	}
	if batches < 200 || weights < 200 {
		t.Errorf("the solver answered for %d batches and %d weights of 800", batches, weights)
	}
}
