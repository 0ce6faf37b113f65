// Package figures sums up what plans and placements say of each layer.
package figures

import (
	"math"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// MeanOf is the mean of a figure over the layers that have one; NaN = none has.
func MeanOf(figure []float64) float64 {
	sum, n := 0.0, 0
	for _, x := range figure {
		if !math.IsNaN(x) {
			sum += x
			n++
		}
	}
	return sum / float64(n)
}

// ImbalanceOver is the imbalance of each layer of a placement over windows, with
// their tokens dispatched as d says.
func ImbalanceOver(p *placement.Placement, windows []placement.Loads, t placement.Topology, d eplb.Dispatch) ([]float64, error) {
	if d == eplb.Nearest {
		return p.NearestOver(windows, t)
	}
	even, err := p.ImbalanceOver(windows, t)
	if err != nil || d == eplb.Even {
		return even, err
	}
	return splitOver(p, windows, t, even)
}

// Each returns one figure of every layer of a plan.
func Each(r *eplb.Result, f func(eplb.Layer) float64) []float64 {
	out := make([]float64, len(r.Layers))
	for l, layer := range r.Layers {
		out[l] = f(layer)
	}
	return out
}

func ImbalanceOf(l eplb.Layer) float64 { return l.Imbalance }

func BoundOf(l eplb.Layer) float64 { return l.LowerBound }

// MeanMax is the mean and the largest of a figure over the layers that have
// load, none where no layer has. A dense layer would only dilute the mean.
func MeanMax(figure []float64, loads placement.Loads, none float64) (mean, most float64) {
	n := 0
	for l, x := range figure {
		if Loaded(loads[l]) {
			mean += x
			most = max(most, x)
			n++
		}
	}
	if n == 0 {
		return none, none
	}
	return mean / float64(n), most
}

// WeighedMean is the mean of a figure over the layers that have load, each in
// proportion to the tokens that it sees; 1 where none has any.
func WeighedMean(figure []float64, loads placement.Loads, weights []float64) float64 {
	sum, total := 0.0, 0.0
	for l, x := range figure {
		if Loaded(loads[l]) {
			sum += float64(x * weights[l])
			total += weights[l]
		}
	}
	if total == 0 {
		return 1
	}
	return sum / total
}

func Loaded(row []float64) bool {
	for _, x := range row {
		if x > 0 {
			return true
		}
	}
	return false
}
