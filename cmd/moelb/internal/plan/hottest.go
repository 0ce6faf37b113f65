package plan

import (
	"slices"
)

// hot is an expert of a layer.
type hot struct {
	Layer    int     `json:"layer"`
	Expert   int     `json:"expert"`
	Share    float64 `json:"share"` // of the layer's load
	Times    float64 `json:"times"` // its load, in units of the mean expert's
	Replicas int     `json:"replicas"`
}

// hottest lists the k experts with the largest shares of their layers' loads,
// largest first, ties by layer and expert.
func (s *solution) hottest(k int) []hot {
	out := make([]hot, 0, k+1)
	count := s.result.Placement.LogicalCount()
	for l, row := range s.loads {
		sum := 0.0
		for _, x := range row {
			sum += x
		}
		for e, x := range row {
			if x == 0 || len(out) == k && x/sum <= out[k-1].Share {
				continue
			}
			h := hot{Layer: l, Expert: e, Share: x / sum, Times: x / sum * float64(len(row)), Replicas: count[l][e]}
			at, _ := slices.BinarySearchFunc(out, h, func(a, b hot) int {
				if a.Share >= b.Share {
					return -1
				}
				return 1
			})
			out = slices.Insert(out, at, h)
			out = out[:min(len(out), k)]
		}
	}
	return out
}
