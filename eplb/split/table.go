package split

import (
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
// It starts from the nearest replicas: a GPU's own, else the first on its node, else
// that of the least loaded GPU; then the fullest GPU hands senders to other replicas,
// those on the sender's node first, as long as the fullest of the two becomes less
// full. A layer's Imbalance is what comes of loads whose tokens come evenly from all
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
	y := newTabling(p, &t)
	for l, row := range p.PhysicalToLogical {
		y.set(row, loads[l])
		y.even()
		tables[l] = y.table
		x := placement.Imbalance(y.load, t.Speed)
		layers[l] = eplb.Layer{Imbalance: x, LowerBound: 1}
		y.table = nil
	}
	return tables, layers, nil
}

// tabling makes the table of one layer.
type tabling struct {
	p     *placement.Placement
	t     *placement.Topology
	gpu   []int32 // of each slot
	alive int
	at    [][]int // slots of each expert, one a GPU
	each  []float64
	load  []float64
	table [][]int
}

func newTabling(p *placement.Placement, t *placement.Topology) *tabling {
	return &tabling{p: p, t: t, gpu: flow.NewLinker(p.FirstSlots(), p.Experts, nil).GPU, alive: t.InService(), at: make([][]int, p.Experts), each: make([]float64, p.Experts), load: make([]float64, p.GPUs)}
}

// set sends every GPU's tokens to the nearest replicas, the largest share first.
func (y *tabling) set(row []int, loads []float64) {
	clear(y.load)
	for e := range y.at {
		y.at[e] = y.at[e][:0]
		y.each[e] = loads[e] / float64(y.alive)
	}
	for s, e := range row {
		if e >= 0 {
			if n := len(y.at[e]); n == 0 || y.gpu[y.at[e][n-1]] != y.gpu[s] {
				y.at[e] = append(y.at[e], s)
			}
		}
	}
	y.table = make([][]int, y.p.GPUs)
	for g := range y.table {
		y.table[g] = make([]int, y.p.Experts)
		for e, at := range y.at {
			y.table[g][e] = -1
			if y.t.SpeedOf(g) > 0 {
				s := y.nearest(g, at)
				y.table[g][e] = s
				y.load[y.gpu[s]] += y.each[e]
			}
		}
	}
}

// nearest is the slot that serves GPU g at first.
func (y *tabling) nearest(g int, at []int) int {
	best, rank := -1, 3
	for _, s := range at {
		h, r := y.on(s), 2
		switch {
		case h == g:
			r = 0
		case y.t.Node(h) == y.t.Node(g):
			r = 1
		}
		if r < rank || r == 2 && r == rank && y.level(h) < y.level(y.on(best)) {
			best, rank = s, r
		}
	}
	return best
}

// on is the GPU of a slot.
func (y *tabling) on(slot int) int { return int(y.gpu[slot]) }

func (y *tabling) level(g int) float64 { return y.load[g] / y.t.SpeedOf(g) }

// even hands senders of the fullest GPU to other replicas.
func (y *tabling) even() {
	for range 4 * len(y.gpu) * y.p.GPUs {
		h := y.fullest()
		from, expert, to := y.handOver(h)
		if from < 0 {
			return
		}
		y.load[h] -= y.each[expert]
		y.load[y.on(to)] += y.each[expert]
		y.table[from][expert] = to
	}
}

// fullest is the GPU of the highest level.
func (y *tabling) fullest() int {
	h := 0
	for g := range y.load {
		if y.t.SpeedOf(g) > 0 && (y.t.SpeedOf(h) == 0 || y.level(g) > y.level(h)) {
			h = g
		}
	}
	return h
}

// handOver finds a sender from whom GPU h gets an expert's tokens and the slot that
// they had better go to, on the sender's node if one there helps; from -1 = none.
func (y *tabling) handOver(h int) (from, expert, to int) {
	from = -1
	best, near := y.level(h)*(1-1e-9), false
	for e, at := range y.at {
		x := y.each[e]
		if len(at) < 2 || x == 0 {
			continue
		}
		for g, row := range y.table {
			if row[e] < 0 || y.on(row[e]) != h {
				continue
			}
			for _, s := range at {
				q := y.on(s)
				if q == h {
					continue
				}
				l := max((y.load[h]-x)/y.t.SpeedOf(h), (y.load[q]+x)/y.t.SpeedOf(q))
				n := y.t.Node(q) == y.t.Node(g)
				if l < best && (n || !near) || n && !near && l < y.level(h)*(1-1e-9) {
					from, expert, to, best, near = g, e, s, l, n
				}
			}
		}
	}
	return from, expert, to
}
