package plan

import (
	"strconv"

	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

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
	e.Raw(s.Options.Policy.String())
	e.Raw(`"`)
	e.Field("num_gpus")
	e.Int(int64(p.GPUs))
	e.Field("num_experts")
	e.Int(int64(p.Experts))
	if p.GPUSlots != nil {
		e.Field("gpu_slots")
		figures.Ints(e, p.GPUSlots)
	}
	e.Field("physical_to_logical_map")
	figures.IntRows(e, p.PhysicalToLogical)
	e.Field("logical_to_physical_map")
	figures.Lines(e, p.LogicalToPhysical(), func(experts [][]int) { wire.List(e, experts, func(slots []int) { figures.Ints(e, slots) }) })
	e.Field("logical_count")
	figures.IntRows(e, counts)
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
	mean, most := figures.MeanMax(figures.Each(&s.result, figures.ImbalanceOf), s.loads, 1)
	bound, _ := figures.MeanMax(figures.Each(&s.result, figures.BoundOf), s.loads, 1)
	moves := s.moves()
	e.Raw(`{"imbalance_mean":`)
	e.Float(mean)
	e.Field("imbalance_max")
	e.Float(most)
	e.Field("lower_bound_mean")
	e.Float(bound)
	if s.Weights != nil {
		e.Field("imbalance_weighted_mean")
		e.Float(figures.WeighedMean(figures.Each(&s.result, figures.ImbalanceOf), s.loads, s.Weights))
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
		mean, most := figures.MeanMax(before, s.loads, 1)
		e.Field("before")
		e.Raw(`{"imbalance_mean":`)
		e.Float(mean)
		e.Field("imbalance_max")
		e.Float(most)
		if t := s.result.Traffic; t != nil && t.Previous != nil {
			e.Field("nodes_per_token_mean")
			figures.Number(e, figures.MeanOf(t.Previous))
		}
		if names := s.without(); names != nil {
			e.Field("without")
			wire.List(e, names, e.Quote)
		}
		e.Raw("}")
	}
	if s.result.Traffic != nil {
		e.Field("nodes_per_token_mean")
		figures.Number(e, figures.MeanOf(figures.Each(&s.result, nodesOf)))
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
			figures.Number(e, layer.NodesPerToken)
		}
		e.Raw("}")
	}
	e.Raw("\n]")
	if k := s.result.Locality; k != nil {
		free, _ := figures.MeanMax(k.FreeImbalance, s.loads, 1)
		share, _ := figures.MeanMax(k.OffNodeShare, s.loads, 0)
		e.Field("locality")
		e.Raw(`{"home":`)
		figures.IntRows(e, k.Home)
		e.Field("free_imbalance_mean")
		e.Float(free)
		e.Field("off_node_replicas")
		figures.Ints(e, k.OffNodeReplicas)
		e.Field("off_node_share")
		figures.Floats(e, k.OffNodeShare)
		e.Field("off_node_share_mean")
		e.Float(share)
		e.Raw("}")
	}
	e.Raw("}")
}
