package main

import (
	"math"
	"strconv"

	"github.com/moelb/moelb/placement"
)

// encoder appends JSON. Plans are tables of small numbers: written by hand they
// cost less than the planning.
type encoder struct{ b []byte }

func (e *encoder) raw(s string) { e.b = append(e.b, s...) }

// field starts a member of an object; every object's first member is written raw.
func (e *encoder) field(name string) {
	e.raw(`,"`)
	e.raw(name)
	e.raw(`":`)
}

func (e *encoder) int(n int64) { e.b = strconv.AppendInt(e.b, n, 10) }

// float writes the shortest number that reads back as x, like encoding/json.
func (e *encoder) float(x float64) {
	format := byte('f')
	if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	e.b = strconv.AppendFloat(e.b, x, format, -1, 64)
}

// quote writes a string of this command's own words.
func (e *encoder) quote(s string) { e.b = strconv.AppendQuote(e.b, s) }

func list[T any](e *encoder, items []T, item func(T)) {
	e.raw("[")
	for i, x := range items {
		if i > 0 {
			e.raw(",")
		}
		item(x)
	}
	e.raw("]")
}

func ints1[T int | int64](e *encoder, row []T) {
	list(e, row, func(n T) { e.int(int64(n)) })
}

func (e *encoder) floats(row []float64) { list(e, row, e.float) }

// layers writes one layer a line, so that a person or diff can find one.
func layers[T any](e *encoder, items []T, item func(T)) {
	e.raw("[\n")
	for i, x := range items {
		if i > 0 {
			e.raw(",\n")
		}
		item(x)
	}
	e.raw("\n]")
}

func ints2[T int | int64](e *encoder, rows [][]T) {
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
		return nil, bad(placement.ErrShape, "logical_to_physical_map", -1, -1, "%d layers of %d experts with up to %d replicas: at most %d numbers are written (--format has narrower ones)", len(counts), p.Experts, width, placement.MaxCells)
	}
	before, err := s.beforeImbalance()
	if err != nil {
		return nil, err
	}
	e := &encoder{b: make([]byte, 0, 64*len(counts)+len(counts)*(4*p.Slots()+3*p.Experts*(width+1)))}
	e.raw(`{"version":1,"policy":"`)
	e.raw(s.options.Policy.String())
	e.raw(`"`)
	e.field("num_gpus")
	e.int(int64(p.GPUs))
	e.field("num_experts")
	e.int(int64(p.Experts))
	if p.GPUSlots != nil {
		e.field("gpu_slots")
		ints1(e, p.GPUSlots)
	}
	e.field("physical_to_logical_map")
	ints2(e, p.PhysicalToLogical)
	e.field("logical_to_physical_map")
	layers(e, p.LogicalToPhysical(), func(experts [][]int) { list(e, experts, func(slots []int) { ints1(e, slots) }) })
	e.field("logical_count")
	ints2(e, counts)
	e.field("report")
	s.report(e, before)
	if s.change != nil {
		s.change.json(e)
	}
	e.raw("}\n")
	return e.b, nil
}

// report writes what is said about the plan.
func (s *solution) report(e *encoder, before []float64) {
	mean, most := meanMax(s.each(imbalanceOf), s.loads, 1)
	bound, _ := meanMax(s.each(boundOf), s.loads, 1)
	moves := s.moves()
	e.raw(`{"imbalance_mean":`)
	e.float(mean)
	e.field("imbalance_max")
	e.float(most)
	e.field("lower_bound_mean")
	e.float(bound)
	e.field("moves")
	e.int(int64(moves))
	e.field("moved_bytes")
	if n, known := s.movedBytes(moves); known {
		e.int(n)
	} else {
		e.raw("null")
	}
	e.field("seconds")
	e.float(s.seconds)
	if before != nil {
		mean, most := meanMax(before, s.loads, 1)
		e.field("before")
		e.raw(`{"imbalance_mean":`)
		e.float(mean)
		e.field("imbalance_max")
		e.float(most)
		e.raw("}")
	}
	e.field("layers")
	e.raw("[")
	for l, layer := range s.result.Layers {
		if l > 0 {
			e.raw(",")
		}
		e.raw("\n" + `{"imbalance":`)
		e.float(layer.Imbalance)
		e.field("lower_bound")
		e.float(layer.LowerBound)
		e.field("moves")
		e.int(int64(layer.Moves))
		e.field("status")
		e.raw(strconv.Quote(layer.Status.String()))
		e.raw("}")
	}
	e.raw("\n]")
	if k := s.result.Locality; k != nil {
		free, _ := meanMax(k.FreeImbalance, s.loads, 1)
		share, _ := meanMax(k.OffNodeShare, s.loads, 0)
		e.field("locality")
		e.raw(`{"home":`)
		ints2(e, k.Home)
		e.field("free_imbalance_mean")
		e.float(free)
		e.field("off_node_replicas")
		ints1(e, k.OffNodeReplicas)
		e.field("off_node_share")
		e.floats(k.OffNodeShare)
		e.field("off_node_share_mean")
		e.float(share)
		e.raw("}")
	}
	e.raw("}")
}
