package placement

import (
	"math"
	"slices"
)

// Score is how even one layer of a placement is under given loads. Each
// expert's load is split evenly over its replicas.
type Score struct {
	// GPULoads is the load of each GPU, [GPUs], not divided by its speed.
	GPULoads []float64
	// Imbalance is the largest load/speed of a GPU in service, divided by total
	// load / total speed: ≥ 1 but for rounding, and 1 for a layer without load.
	Imbalance float64
	// Balancedness is 1/Imbalance: ≤ 1.
	Balancedness float64
}

// ScoreLayers measures every layer of p under loads of the same shape. t must
// have p's GPUs; its zero value stands for equal speeds. A replica on a GPU
// out of service is an *Error. Cost: one pass over slots and experts.
func (p *Placement) ScoreLayers(loads Loads, t Topology) ([]Score, error) {
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
	first := p.FirstSlots()
	for l, row := range p.PhysicalToLogical {
		for g := range p.GPUs {
			if t.SpeedOf(g) > 0 {
				continue
			}
			for s := first[g]; s < first[g+1]; s++ {
				if row[s] >= 0 {
					return nil, errorf(ErrFit, "physical_to_logical_map", l, s, "expert %d on GPU %d, which is out of service", row[s], g)
				}
			}
		}
	}
	count := p.LogicalCount()
	cells := make([]float64, len(loads)*p.GPUs)
	out := make([]Score, len(loads))
	for l, row := range p.PhysicalToLogical {
		gpu := cells[l*p.GPUs : (l+1)*p.GPUs : (l+1)*p.GPUs]
		for g := range p.GPUs {
			for _, e := range row[first[g]:first[g+1]] {
				if e >= 0 {
					gpu[g] += loads[l][e] / float64(count[l][e])
				}
			}
		}
		x := Imbalance(gpu, t.Speed)
		out[l] = Score{GPULoads: gpu, Imbalance: x, Balancedness: 1 / x}
	}
	return out, nil
}

// Imbalance is the largest load/speed over the GPUs in service (speed above
// 0), divided by total load / total speed. speed nil = all equal. It is 1 where
// nothing is loaded.
func Imbalance(gpuLoads, speed []float64) float64 {
	if speed == nil {
		total := 0.0
		for _, x := range gpuLoads {
			total += x
		}
		if total == 0 {
			return 1
		}
		return ratio(slices.Max(gpuLoads), float64(len(gpuLoads)), total)
	}
	var total, speeds, most float64
	for g, x := range gpuLoads {
		if speed[g] > 0 {
			total += x
			speeds += speed[g]
			most = max(most, x/speed[g])
		}
	}
	if total == 0 {
		return 1
	}
	return ratio(most, speeds, total)
}

// ratio is most * n / total, also where the product is too large for a float64.
func ratio(most, n, total float64) float64 {
	if x := most * n; !math.IsInf(x, 0) {
		return x / total
	}
	return most / total * n
}
