package eplb

import "github.com/moelb/moelb/placement"

// This file stands in for the real split until it is merged: even quotas.

type SplitOptions struct{ Workers int }

type SplitResult struct {
	Quota  [][]int64
	Layers []Layer
}

func SplitBatch(p *placement.Placement, t placement.Topology, counts [][]int64, o SplitOptions) (SplitResult, error) {
	loads, err := placement.LoadsOf(counts)
	if err != nil {
		return SplitResult{}, err
	}
	_, err = p.ScoreLayers(loads, t)
	if err != nil {
		return SplitResult{}, err
	}
	n := p.LogicalCount()
	var r SplitResult
	for l, row := range p.PhysicalToLogical {
		q := make([]int64, len(row))
		next := make([]int64, p.Experts)
		for s, e := range row {
			if e >= 0 {
				k := int64(n[l][e])
				q[s] = counts[l][e] / k
				if next[e] < counts[l][e]%k {
					q[s]++
				}
				next[e]++
			}
		}
		r.Quota = append(r.Quota, q)
		r.Layers = append(r.Layers, Layer{Imbalance: placement.Imbalance(gpuSums(p, q), t.Speed), LowerBound: 1})
	}
	return r, nil
}

func gpuSums(p *placement.Placement, q []int64) []float64 {
	first := p.FirstSlots()
	out := make([]float64, p.GPUs)
	for g := range out {
		for _, x := range q[first[g]:first[g+1]] {
			out[g] += float64(x)
		}
	}
	return out
}
