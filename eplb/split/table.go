package split

import (
	"cmp"
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
	gpu := flow.NewLinker(p.FirstSlots(), p.Experts, nil).GPU
	for l, row := range p.PhysicalToLogical {
		y := newTabling(gpu, &t, row, loads[l])
		y.even()
		tables[l] = y.table
		layers[l] = eplb.Layer{Imbalance: placement.Imbalance(y.load, t.Speed), LowerBound: 1}
	}
	return tables, layers, nil
}

// tabling makes the table of one layer.
type tabling struct {
	t     *placement.Topology
	gpu   []int32   // of each slot
	at    [][]int   // slots of each expert
	each  []float64 // what a GPU sends to each expert
	load  []float64
	table [][]int
}

// newTabling sends every GPU's tokens to the nearest replicas.
func newTabling(gpu []int32, t *placement.Topology, row []int, loads []float64) *tabling {
	y := &tabling{t, gpu, make([][]int, len(loads)), slices.Clone(loads), make([]float64, t.GPUs), make([][]int, t.GPUs)}
	for s, e := range row {
		if e >= 0 {
			y.at[e] = append(y.at[e], s)
		}
	}
	for e := range y.each {
		y.each[e] /= float64(t.InService())
	}
	for g := range y.table {
		y.table[g] = slices.Repeat([]int{-1}, len(y.at))
		for e := range y.at {
			if t.SpeedOf(g) > 0 {
				s := y.nearest(g, e)
				y.table[g][e] = s
				y.load[gpu[s]] += y.each[e]
			}
		}
	}
	return y
}

// nearest is the slot that serves GPU g at first: of the nearest that of the least
// loaded GPU.
func (y *tabling) nearest(g, e int) int {
	return slices.MinFunc(y.at[e], func(a, b int) int {
		return cmp.Or(y.away(g, a)-y.away(g, b), cmp.Compare(y.level(y.on(a), y.each[e]), y.level(y.on(b), y.each[e])))
	})
}

// away is how far a slot is from a GPU: 0 = there, 1 = on its node, 2 = elsewhere.
func (y *tabling) away(g, slot int) int {
	switch h := y.on(slot); {
	case h == g:
		return 0
	case y.t.Node(h) == y.t.Node(g):
		return 1
	}
	return 2
}

// on is the GPU of a slot.
func (y *tabling) on(slot int) int { return int(y.gpu[slot]) }

// level is a GPU's load by speed with so much more; 0 out of service.
func (y *tabling) level(g int, more float64) float64 {
	if y.t.SpeedOf(g) == 0 {
		return 0
	}
	return (y.load[g] + more) / y.t.SpeedOf(g)
}

// even hands senders of the fullest GPU to other replicas.
func (y *tabling) even() {
	for range 4 * len(y.gpu) * len(y.load) {
		h := 0
		for g := range y.load {
			if y.level(g, 0) > y.level(h, 0) {
				h = g
			}
		}
		from, expert, to := y.handOver(h)
		if from < 0 {
			return
		}
		y.load[h] -= y.each[expert]
		y.load[y.on(to)] += y.each[expert]
		y.table[from][expert] = to
	}
}

// handOver finds a sender from whom GPU h gets an expert's tokens and the slot that
// they had better go to, the nearest that helps; from -1 = none.
func (y *tabling) handOver(h int) (from, expert, to int) {
	from = -1
	top := y.level(h, 0) * (1 - 1e-9)
	best, way := top, 3
	for e, at := range y.at {
		x := y.each[e]
		rest := y.level(h, -x)
		if len(at) < 2 || x == 0 || rest >= top {
			continue
		}
		for g, row := range y.table {
			if row[e] < 0 || y.on(row[e]) != h {
				continue
			}
			for _, s := range at {
				if q := y.on(s); q != h {
					l, far := max(rest, y.level(q, x)), y.away(g, s)
					if l < top && (far < way || far == way && l < best) {
						from, expert, to, best, way = g, e, s, l, far
					}
				}
			}
		}
	}
	return from, expert, to
}
