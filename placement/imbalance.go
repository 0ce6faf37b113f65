package placement

import (
	"math"
	"slices"
)

// Score is how even one layer of a placement is under given loads. Each
// expert's load is split evenly over its replicas, or as ScoreNearest says.
type Score struct {
	// GPULoads is the load of each GPU, [GPUs], not divided by its speed; 0 out of
	// service.
	GPULoads []float64
	// Imbalance is the largest load/speed of a GPU in service, divided by total
	// load / total speed: ≥ 1 but for rounding, and 1 for a layer without load. It
	// is +Inf where experts are Missing.
	Imbalance float64
	// Balancedness is 1/Imbalance: ≤ 1, and 0 where experts are Missing.
	Balancedness float64
	// Missing lists the experts without a replica on a GPU in service; nil = none.
	// Their load is in no GPU's.
	Missing []int
}

// ScoreLayers measures every layer of p, complete or not, under loads of the
// same shape. t must have p's GPUs; its zero value stands for equal speeds. What
// is on GPUs out of service counts for nothing. Cost: one pass over slots and
// experts.
func (p *Placement) ScoreLayers(loads Loads, t Topology) ([]Score, error) {
	return p.score(loads, t, false)
}

// score is ScoreLayers or ScoreNearest.
func (p *Placement) score(loads Loads, t Topology, nearest bool) ([]Score, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := loads.Validate(); err != nil {
		return nil, err
	}
	if t.GPUs == 0 && t.Speed == nil {
		t.GPUs, t.Nodes = p.GPUs, 1
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	switch {
	case t.GPUs != p.GPUs:
		return nil, errorf(ErrShape, "num_gpus", -1, -1, "the placement has %d, the topology %d", p.GPUs, t.GPUs)
	case len(loads) != len(p.PhysicalToLogical):
		return nil, errorf(ErrShape, "loads", -1, -1, "%d layers, but the placement has %d", len(loads), len(p.PhysicalToLogical))
	case loads.Experts() != p.Experts:
		return nil, errorf(ErrShape, "loads", 0, -1, "%d experts, but the placement has %d", loads.Experts(), p.Experts)
	}
	for l, n := range p.LayerExperts {
		for e := n; e < p.Experts; e++ {
			if loads[l][e] != 0 {
				return nil, errorf(ErrValue, "loads", l, e, "%v, but the placement's layer has %d experts", loads[l][e], n)
			}
		}
	}
	first := p.FirstSlots()
	cells := make([]float64, len(loads)*p.GPUs)
	count := make([]int, p.Experts)
	near := newNear(p, &t, nearest)
	out := make([]Score, len(loads))
	for l, row := range p.PhysicalToLogical {
		gpu := cells[l*p.GPUs : (l+1)*p.GPUs : (l+1)*p.GPUs]
		clear(count)
		for g := range p.GPUs {
			for _, e := range row[first[g]:first[g+1]] {
				if e >= 0 && t.SpeedOf(g) > 0 {
					count[e]++
				}
			}
		}
		for g := range p.GPUs {
			for _, e := range row[first[g]:first[g+1]] {
				switch {
				case e < 0 || t.SpeedOf(g) == 0:
				case near != nil:
					near.add(e, g)
				default:
					gpu[g] += loads[l][e] / float64(count[e])
				}
			}
		}
		if near != nil {
			near.load(gpu, loads[l])
		}
		x := Imbalance(gpu, t.Speed)
		out[l] = Score{GPULoads: gpu, Imbalance: x, Balancedness: 1 / x}
		if slices.Contains(count[:p.ExpertsOf(l)], 0) {
			out[l] = Score{GPULoads: gpu, Imbalance: math.Inf(1), Missing: p.Missing(l, t.Speed)}
		}
	}
	return out, nil
}

// Imbalance is the largest load/speed over the GPUs in service (speed above
// 0), divided by total load / total speed. speed nil = all equal. It is 1 where
// nothing is loaded.
func Imbalance(gpuLoads, speed []float64) float64 {
	var total, speeds, most float64
	for g, x := range gpuLoads {
		v := 1.0
		if speed != nil {
			v = speed[g]
		}
		if v > 0 {
			total += x
			speeds += v
			most = max(most, x/v)
		}
	}
	if total == 0 {
		return 1
	}
	if x := most * speeds; !math.IsInf(x, 0) || math.IsInf(total, 0) {
		return max(1, x/total) // which rounding may make less of
	}
	small := slices.Clone(gpuLoads) // what is too large for a float64
	for g := range small {
		small[g] *= smaller
	}
	return Imbalance(small, speed)
}

// smaller makes large loads such that their sums, times speeds, are numbers too.
const smaller = 0x1p-200

// ImbalanceOver is the imbalance of each layer of p over several windows of
// loads: what steps really cost, in proportion to their tokens. It is the sum over
// the windows of the largest load/speed of a GPU, over the sum of their mean
// load/speed; 1 for a layer without load, +Inf where experts are missing. Windows
// without load count for nothing. The other terms are those of ScoreLayers.
func (p *Placement) ImbalanceOver(windows []Loads, t Topology) ([]float64, error) {
	return p.over(windows, func(w Loads) ([]Score, error) { return p.ScoreLayers(w, t) })
}

// NearestOver is ImbalanceOver where tokens go as ScoreNearest says.
func (p *Placement) NearestOver(windows []Loads, t Topology) ([]float64, error) {
	return p.over(windows, func(w Loads) ([]Score, error) { return p.ScoreNearest(w, t) })
}

func (p *Placement) over(windows []Loads, score func(w Loads) ([]Score, error)) ([]float64, error) {
	layers := len(p.PhysicalToLogical)
	sums, levels := NewLoads(layers, len(windows)), NewLoads(layers, len(windows))
	for k, w := range windows {
		scores, err := score(w)
		if err != nil {
			return nil, err
		}
		for l, s := range scores {
			levels[l][k] = s.Imbalance
			for _, x := range s.GPULoads {
				sums[l][k] += x
			}
			if s.Missing != nil {
				sums[l][k] = max(sums[l][k], 1)
			}
		}
	}
	out := make([]float64, layers)
	for l, row := range sums {
		scale, most, mean := 1.0, 0.0, 0.0
		if len(row) > 0 && slices.Max(row) > 1/smaller {
			scale = smaller
		}
		for k, sum := range row {
			if sum *= scale; sum > 0 {
				mean += sum
				most += float64(levels[l][k] * sum)
			}
		}
		if out[l] = 1; mean > 0 {
			out[l] = max(1, most/mean)
		}
	}
	return out, nil
}
