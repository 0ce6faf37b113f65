package eplb

import (
	"github.com/moelb/moelb/eplb/internal/homes"
	"github.com/moelb/moelb/eplb/internal/problem"
)

// newLocalityPrice is a price without its figures.
func newLocalityPrice(layers, groups int) *LocalityPrice {
	return &LocalityPrice{
		Home: rows[int](layers, groups), FreeImbalance: make([]float64, layers),
		OffNodeReplicas: make([]int, layers), OffNodeShare: make([]float64, layers),
	}
}

// count fills in what of a layer's placement is off its home.
func (to *LocalityPrice) count(p *problem.Problem, l int, row []int) {
	to.Home[l], to.OffNodeReplicas[l], to.OffNodeShare[l] = homes.Away(p, l, row)
}
