package main

import "slices"

// hottest lists the k experts that got the most replicas, over all layers.
func (s *solution) hottest(k int) []hot {
	var out []hot
	for l, row := range s.result.Placement.LogicalCount() {
		sum := 0.0
		for _, x := range s.loads[l] {
			sum += x
		}
		for e, n := range row {
			if s.loads[l][e] > 0 {
				out = append(out, hot{Layer: l, Expert: e, Share: s.loads[l][e] / sum, Times: s.loads[l][e] / sum * float64(len(row)), Replicas: n})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b hot) int {
		switch {
		case a.Share > b.Share:
			return -1
		case a.Share < b.Share:
			return 1
		}
		return 0
	})
	return out[:min(k, len(out))]
}

// hot is an expert of a layer.
type hot struct {
	Layer    int     `json:"layer"`
	Expert   int     `json:"expert"`
	Share    float64 `json:"share"` // of the layer's load
	Times    float64 `json:"times"` // its load, in units of the mean expert's
	Replicas int     `json:"replicas"`
}
