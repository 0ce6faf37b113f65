package figures

import (
	"math"

	"github.com/moelb/moelb/eplb/split"
	"github.com/moelb/moelb/placement"
)

// splitOver is ImbalanceOver where the tokens of every window are split among the
// replicas at their best; even is what an even split makes of them.
func splitOver(p *placement.Placement, windows []placement.Loads, t placement.Topology, even []float64) ([]float64, error) {
	var whole []int // the layers that hold every expert
	q := placement.Placement{Experts: p.Experts, GPUs: p.GPUs, GPUSlots: p.GPUSlots}
	first := p.FirstSlots()
	for l, x := range even {
		if math.IsInf(x, 1) {
			continue
		}
		row := append([]int(nil), p.PhysicalToLogical[l]...)
		for g := range p.GPUs {
			if t.GPUs > 0 && t.SpeedOf(g) == 0 {
				for i := first[g]; i < first[g+1]; i++ {
					row[i] = -1
				}
			}
		}
		whole = append(whole, l)
		q.PhysicalToLogical = append(q.PhysicalToLogical, row)
		if p.LayerExperts != nil {
			q.LayerExperts = append(q.LayerExperts, p.LayerExperts[l])
		}
	}
	if whole == nil {
		return even, nil
	}
	most, all := make([]float64, len(whole)), make([]float64, len(whole))
	for _, w := range windows {
		var loads placement.Loads
		for _, l := range whole {
			loads = append(loads, w[l])
		}
		_, layers, err := split.StaticWeights(&q, t, []placement.Loads{loads})
		if err != nil {
			return nil, err
		}
		for k, row := range loads {
			sum := 0.0
			for _, x := range row {
				sum += x
			}
			all[k] += sum
			most[k] += float64(layers[k].Imbalance * sum)
		}
	}
	for k, l := range whole {
		if all[k] > 0 {
			even[l] = min(even[l], most[k]/all[k])
		}
	}
	return even, nil
}
