package main

import (
	"strconv"

	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

func ints1[T int | int64](e *wire.Encoder, row []T) {
	wire.List(e, row, func(n T) { e.Int(int64(n)) })
}

func floats(e *wire.Encoder, row []float64) { wire.List(e, row, e.Float) }

// layers writes one layer a line, so that a person or diff can find one.
func layers[T any](e *wire.Encoder, items []T, item func(T)) {
	e.Raw("[\n")
	for i, x := range items {
		if i > 0 {
			e.Raw(",\n")
		}
		item(x)
	}
	e.Raw("\n]")
}

func ints2[T int | int64](e *wire.Encoder, rows [][]T) {
	layers(e, rows, func(row []T) { ints1(e, row) })
}

// json is the contract's answer to moelb plan.
func (s *solution) json() ([]byte, error) {
	p := &s.result.Placement
	counts := p.LogicalCount()
	width := 0
	for _, row := range counts {
		for _, n := range row {
			width = max(width, n)
		}
	}
	if cells := int64(len(counts)) * int64(p.Experts) * int64(width); cells > placement.MaxCells {
		return nil, wire.Bad(placement.ErrShape, "logical_to_physical_map", -1, -1, "%d layers of %d experts with up to %d replicas: at most %d numbers are written (--format has narrower ones)", len(counts), p.Experts, width, placement.MaxCells)
	}
	before, err := s.beforeImbalance()
	if err != nil {
		return nil, err
	}
	e := &wire.Encoder{B: make([]byte, 0, 64*len(counts)+len(counts)*(4*p.Slots()+3*p.Experts*(width+1)))}
	e.Raw(`{"version":1,"policy":"`)
	e.Raw(s.options.Policy.String())
	e.Raw(`"`)
	e.Field("num_gpus")
	e.Int(int64(p.GPUs))
	e.Field("num_experts")
	e.Int(int64(p.Experts))
	if p.GPUSlots != nil {
		e.Field("gpu_slots")
		ints1(e, p.GPUSlots)
	}
	e.Field("physical_to_logical_map")
	ints2(e, p.PhysicalToLogical)
	e.Field("logical_to_physical_map")
	layers(e, p.LogicalToPhysical(), func(experts [][]int) { wire.List(e, experts, func(slots []int) { ints1(e, slots) }) })
	e.Field("logical_count")
	ints2(e, counts)
	e.Field("report")
	s.report(e, before)
	if s.change != nil {
		if err := s.change.json(e); err != nil {
			return nil, err
		}
	}
	e.Raw("}\n")
	return e.B, nil
}

// report writes what is said about the plan.
func (s *solution) report(e *wire.Encoder, before []float64) {
	mean, most := meanMax(s.each(imbalanceOf), s.loads, 1)
	bound, _ := meanMax(s.each(boundOf), s.loads, 1)
	moves := s.moves()
	e.Raw(`{"imbalance_mean":`)
	e.Float(mean)
	e.Field("imbalance_max")
	e.Float(most)
	e.Field("lower_bound_mean")
	e.Float(bound)
	if s.weights != nil {
		e.Field("imbalance_weighted_mean")
		e.Float(weighedMean(s.each(imbalanceOf), s.loads, s.weights))
	}
	e.Field("moves")
	e.Int(int64(moves))
	e.Field("moved_bytes")
	if n, known := s.movedBytes(moves); known {
		e.Int(n)
	} else {
		e.Raw("null")
	}
	e.Field("seconds")
	e.Float(s.seconds)
	if before != nil {
		mean, most := meanMax(before, s.loads, 1)
		e.Field("before")
		e.Raw(`{"imbalance_mean":`)
		e.Float(mean)
		e.Field("imbalance_max")
		e.Float(most)
		if t := s.result.Traffic; t != nil && t.Previous != nil {
			e.Field("nodes_per_token_mean")
			number(e, meanOf(t.Previous))
		}
		e.Raw("}")
	}
	if s.result.Traffic != nil {
		e.Field("nodes_per_token_mean")
		number(e, meanOf(s.each(nodesOf)))
		s.traffic(e)
	}
	e.Field("layers")
	e.Raw("[")
	for l, layer := range s.result.Layers {
		if l > 0 {
			e.Raw(",")
		}
		e.Raw("\n" + `{"imbalance":`)
		e.Float(layer.Imbalance)
		e.Field("lower_bound")
		e.Float(layer.LowerBound)
		e.Field("moves")
		e.Int(int64(layer.Moves))
		e.Field("status")
		e.Raw(strconv.Quote(layer.Status.String()))
		if s.result.Traffic != nil {
			e.Field("nodes_per_token")
			number(e, layer.NodesPerToken)
		}
		e.Raw("}")
	}
	e.Raw("\n]")
	if k := s.result.Locality; k != nil {
		free, _ := meanMax(k.FreeImbalance, s.loads, 1)
		share, _ := meanMax(k.OffNodeShare, s.loads, 0)
		e.Field("locality")
		e.Raw(`{"home":`)
		ints2(e, k.Home)
		e.Field("free_imbalance_mean")
		e.Float(free)
		e.Field("off_node_replicas")
		ints1(e, k.OffNodeReplicas)
		e.Field("off_node_share")
		floats(e, k.OffNodeShare)
		e.Field("off_node_share_mean")
		e.Float(share)
		e.Raw("}")
	}
	e.Raw("}")
}
