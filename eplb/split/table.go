package split

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/internal/flow"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Table computes a static table for engines that send all of a GPU's tokens of an
// expert to one replica: the slot that serves each expert, [layers][GPUs][experts].
// Row g of a layer is what SGLang calls logical_to_rank_dispatch_physical_map on
// rank g; a GPU out of service has -1.
//
// It starts from the nearest replicas: a GPU's own, else one on its node, else any, of
// several that of the least loaded GPU; then the fullest GPU hands senders to other
// replicas, the nearest to the sender first, as long as the fullest of the two becomes
// less full. A layer's Imbalance is what comes of loads whose tokens come evenly from all
// GPUs; LowerBound is 1. t says who shares a node and must have p's GPUs. Errors are
// those of New, and of loads of another shape. Cost: some milliseconds a layer of 32
// GPUs.
func Table(p *placement.Placement, t placement.Topology, loads placement.Loads) ([][][]int, []eplb.Layer, error) {
	if err := validate(p, &t); err != nil {
		return nil, nil, err
	}
	if err := checkLoads(loads, p, ""); err != nil {
		return nil, nil, err
	}
	if len(loads)*p.Experts > placement.MaxCells/p.GPUs {
		return nil, nil, refuse.Errorf(placement.ErrShape, "num_gpus", "a table of %d GPUs, %d layers and %d experts: at most %d entries are supported", p.GPUs, len(loads), p.Experts, placement.MaxCells)
	}
	tables, layers := make([][][]int, len(loads)), make([]eplb.Layer, len(loads))
	gpu := flow.NewUnit(p.FirstSlots(), p.Experts, nil).GPU
	for l, row := range p.PhysicalToLogical {
		y := &tabling{&t, gpu, make([][]int, p.Experts), slices.Clone(loads[l]), make([]float64, t.GPUs)}
		for s, e := range row {
			if e >= 0 {
				y.at[e] = append(y.at[e], s)
			}
		}
		tables[l] = y.make()
		layers[l] = eplb.Layer{Imbalance: placement.Imbalance(y.load, t.Speed), LowerBound: 1}
	}
	return tables, layers, nil
}

// tabling makes the table of one layer.
type tabling struct {
	t    *placement.Topology
	gpu  []int32   // of each slot
	at   [][]int   // slots of each expert
	each []float64 // what a GPU sends to each expert
	load []float64
}

// make sends every GPU's tokens to the nearest replicas and then hands senders of the
// fullest GPU to others, of all that help the nearest.
func (y *tabling) make() [][]int {
	table := make([][]int, len(y.load))
	for e := range y.each {
		y.each[e] /= float64(y.t.InService())
	}
	for g := range table {
		table[g] = slices.Repeat([]int{-1}, len(y.at))
		for e := range y.at {
			if y.t.SpeedOf(g) > 0 {
				s := y.choose(g, e, 0, math.Inf(1)).slot
				table[g][e] = s
				y.load[y.gpu[s]] += y.each[e]
			}
		}
	}
	for range 4 * len(y.gpu) * len(y.load) {
		h := 0
		for g := range y.load {
			if y.level(g, 0) > y.level(h, 0) {
				h = g
			}
		}
		top := y.level(h, 0) * (1 - 1e-9)
		best, from, expert := none, 0, 0
		for e, x := range y.each {
			rest := y.level(h, -x)
			if len(y.at[e]) < 2 || x == 0 || rest >= top {
				continue
			}
			for g, row := range table {
				if row[e] < 0 || int(y.gpu[row[e]]) != h {
					continue
				}
				if c := y.choose(g, e, rest, top); c.before(best) {
					best, from, expert = c, g, e
				}
			}
		}
		if best == none {
			break
		}
		y.load[h] -= y.each[expert]
		y.load[y.gpu[best.slot]] += y.each[expert]
		table[from][expert] = best.slot
	}
	return table
}

// choice is a slot that may serve a GPU: how far away it is (0 = there, 1 = on its node,
// 2 = elsewhere), and how full its GPU then is.
type choice struct {
	slot, away int
	level      float64
}

var none = choice{-1, 3, 0}

func (c choice) before(d choice) bool {
	return c.away < d.away || c.away == d.away && c.level < d.level
}

// choose is the slot of expert e that had better serve GPU g: the nearest, of several that
// of the least loaded GPU, none then as full as top; rest is what is left where the tokens
// went, which is then as full as top at least with them.
func (y *tabling) choose(g, e int, rest, top float64) choice {
	best := none
	for _, s := range y.at[e] {
		q := int(y.gpu[s])
		c := choice{s, 2, max(rest, y.level(q, y.each[e]))}
		switch {
		case q == g:
			c.away = 0
		case y.t.Node(q) == y.t.Node(g):
			c.away = 1
		}
		if c.level < top && c.before(best) {
			best = c
		}
	}
	return best
}

// level is a GPU's load by speed with so much more; 0 out of service.
func (y *tabling) level(g int, more float64) float64 {
	if y.t.SpeedOf(g) == 0 {
		return 0
	}
	return (y.load[g] + more) / y.t.SpeedOf(g)
}
