package split

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/internal/flow"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Splitter splits each batch's tokens among the replicas of a fixed placement
// so that the largest load/speed of a GPU is least. It is made once a placement
// and then used for every batch; its memory is used again. Not safe for
// concurrent use: give every goroutine one.
type Splitter struct {
	// ReadCost is what reading the weights of an activated expert, one with
	// tokens in the batch, costs a GPU, in tokens: small decode batches are bound
	// by it. 0 = nothing, tokens alone count. +Inf = fewest reads: the largest
	// number of activated experts of a GPU, over its speed, is least, and tokens
	// break ties.
	ReadCost float64

	experts, slots int
	speeds         float64 // of all GPUs together
	layers         []flow.Net
	flow           flow.Flow
	reads          reads
}

// New prepares p for splitting. t must have p's GPUs; its zero value stands for
// equal speeds. Errors are *placement.Error: an invalid or incomplete placement,
// a replica on a GPU out of service. p is not kept. Cost: a pass over the slots.
func New(p *placement.Placement, t placement.Topology) (*Splitter, error) {
	if err := validate(p, &t); err != nil {
		return nil, err
	}
	s := &Splitter{experts: p.Experts, slots: p.Slots(), speeds: float64(p.GPUs), layers: make([]flow.Net, len(p.PhysicalToLogical))}
	var speed []float64 // nil = equal
	if slices.ContainsFunc(t.Speed, func(v float64) bool { return v != t.Speed[0] }) {
		speed, s.speeds = t.Speed, problem.Sum(t.Speed)
	}
	s.reads = reads{kept: make([]int64, 0, s.slots), counts: make([]int64, p.Experts), costs: make([]float64, p.Experts), active: make([]int64, p.GPUs), tokens: make([]int64, p.GPUs), room: make([]int64, p.GPUs)}
	u := flow.NewUnit(p.FirstSlots(), p.Experts, speed)
	for l, row := range p.PhysicalToLogical {
		flow.Link(u, &s.layers[l], row)
	}
	return s, nil
}

// Batch splits one batch, counts [layers][experts], as New and Split do where p serves
// for no other. The quotas are [layers][slots].
func Batch(p *placement.Placement, t placement.Topology, counts [][]int64, readCost float64) (quota [][]int64, layers []eplb.Layer, err error) {
	s, err := New(p, t)
	if err != nil {
		return nil, nil, err
	}
	if len(counts) != len(s.layers) {
		return nil, nil, refuse.Errorf(placement.ErrShape, "counts", "%d layers, but the placement has %d", len(counts), len(s.layers))
	}
	s.ReadCost = readCost
	quota, layers = make([][]int64, len(counts)), make([]eplb.Layer, len(counts))
	for l, row := range counts {
		quota[l] = make([]int64, s.slots)
		if layers[l], err = s.Split(quota[l], l, row); err != nil {
			return nil, nil, err
		}
	}
	return quota, layers, nil
}

// validate checks a placement and the unit that it is on, and fills in t's GPUs.
func validate(p *placement.Placement, t *placement.Topology) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if err := p.CheckComplete(); err != nil {
		return err
	}
	if t.GPUs == 0 && t.Speed == nil {
		t.GPUs, t.Nodes = p.GPUs, 1
	}
	if err := t.Validate(); err != nil {
		return err
	}
	if t.GPUs != p.GPUs {
		return refuse.Errorf(placement.ErrShape, "num_gpus", "the placement has %d, the topology %d", p.GPUs, t.GPUs)
	}
	first := p.FirstSlots()
	for l, row := range p.PhysicalToLogical {
		for g := range p.GPUs {
			for i := first[g]; i < first[g+1] && t.SpeedOf(g) == 0; i++ {
				if row[i] >= 0 {
					return refuse.At(placement.ErrFit, "physical_to_logical_map", l, i, "expert %d on GPU %d, which is out of service", row[i], g)
				}
			}
		}
	}
	return nil
}

// checkLoads demands loads of p's layers and experts.
func checkLoads(w placement.Loads, p *placement.Placement, what string) error {
	if err := w.Validate(); err != nil {
		return err
	}
	if len(w) != len(p.PhysicalToLogical) || w.Experts() != p.Experts {
		return refuse.Errorf(placement.ErrShape, "loads", "%s%dx%d, but the placement has %d layers of %d experts", what, len(w), w.Experts(), len(p.PhysicalToLogical), p.Experts)
	}
	return nil
}

// Split shares counts, the tokens of each expert in this batch, [experts], among
// the expert's slots of a layer, and writes the tokens of each slot to dst,
// [slots]: whole numbers ≥ 0 that add up to the expert's count. Empty slots get
// 0, and where a GPU holds an expert twice the first slot gets all.
//
// The largest load/speed of a GPU is the least that whole tokens allow, so
// Status is Proved and LowerBound equals Imbalance.
//
// With a ReadCost it is the largest cost, ReadCost times the activated experts
// plus the tokens, that matters, and Imbalance is that/speed over the mean if
// every activated expert were read once. With +Inf, where only reads count, it
// is the least, with tokens as even as a descent makes them; between, Imbalance
// may exceed LowerBound, which no split is below.
//
// Errors are *placement.Error: a length that is wrong, a negative count, more
// than 2^52 tokens, a ReadCost that is no cost; dst is then unchanged. Cost: 1 to 3
// microseconds for 32 GPUs and 288 slots, up to 10 with a ReadCost; no
// allocation.
func (s *Splitter) Split(dst []int64, layer int, counts []int64) (eplb.Layer, error) {
	if layer < 0 || layer >= len(s.layers) {
		return eplb.Layer{}, refuse.Errorf(placement.ErrShape, "layer", "%d: the placement has %d", layer, len(s.layers))
	}
	total, err := s.check(dst, layer, counts)
	if err != nil {
		return eplb.Layer{}, err
	}
	n := &s.layers[layer]
	switch {
	case total == 0:
		clear(dst)
		return report(1, 1), nil
	case s.ReadCost != 0:
		return s.splitReads(dst, n, counts, total), nil
	}
	x := s.flow.Split(n, counts) * s.speeds / float64(total)
	copy(dst, s.flow.Quota)
	return report(x, x), nil
}

// check returns the sum of counts.
func (s *Splitter) check(dst []int64, layer int, counts []int64) (total int64, err error) {
	cost := s.ReadCost
	switch {
	// A finite cost beyond the most tokens is as good as the fewest reads.
	case !(cost >= 0 && (cost <= flow.MaxTokens || math.IsInf(cost, 1))):
		return 0, refuse.Errorf(placement.ErrValue, "read_cost", "%v: between 0 and %d tokens, or +Inf for the fewest reads", cost, int64(flow.MaxTokens))
	case len(counts) != s.experts:
		return 0, refuse.At(placement.ErrShape, "counts", layer, -1, "%d experts, but the placement has %d", len(counts), s.experts)
	case len(dst) != s.slots:
		return 0, refuse.At(placement.ErrShape, "quota", layer, -1, "%d slots, but the placement has %d", len(dst), s.slots)
	}
	for e, n := range counts {
		if n < 0 {
			return 0, refuse.At(placement.ErrValue, "counts", layer, e, "%d is negative", n)
		}
		if total += min(n, flow.MaxTokens+1); total > flow.MaxTokens {
			return 0, refuse.At(placement.ErrValue, "counts", layer, e, "%d: a layer's tokens add up to more than %d", n, int64(flow.MaxTokens))
		}
	}
	return total, nil
}

// provedTolerance is how near a level must come to its bound to be called
// equal: what rounding leaves.
const provedTolerance = 1e-9

// report is what a layer's split is told to be.
func report(level, bound float64) eplb.Layer {
	level, bound = max(level, 1), max(bound, 1) // rounding may make less of them
	out := eplb.Layer{Imbalance: level, LowerBound: min(bound, level)}
	if level <= bound*(1+provedTolerance) {
		out.Status = eplb.Proved
	}
	return out
}
