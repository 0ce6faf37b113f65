package main

/*
#define MOELB_NO_PROTOTYPES
#include "moelb.h"
*/
import "C"

import (
	"context"
	"math"
	"slices"
	"time"
	"unsafe"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// The header's constants are the package's.
const (
	_ = -uint(eplb.Optimal-C.MOELB_OPTIMAL) - uint(eplb.DeepSeek-C.MOELB_DEEPSEEK)
	_ = -uint(eplb.Auto-C.MOELB_AUTO) - uint(eplb.ByGroup-C.MOELB_GROUPS) - uint(eplb.Free-C.MOELB_NONE)
	_ = -uint(eplb.Even-C.MOELB_EVEN) - uint(eplb.Split-C.MOELB_SPLIT)
	_ = -uint(eplb.Feasible-C.MOELB_FEASIBLE) - uint(eplb.Proved-C.MOELB_PROVED) - uint(eplb.Stopped-C.MOELB_STOPPED)
)

//export moelb_plan
func moelb_plan(problem *C.moelb_problem, result *C.moelb_plan_result, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() error {
		if problem == nil {
			return missing("problem")
		}
		if result == nil {
			return missing("result")
		}
		if err := sized("problem", problem.size, unsafe.Sizeof(*problem)); err != nil {
			return err
		}
		if err := sized("result", result.size, unsafe.Sizeof(*result)); err != nil {
			return err
		}
		p, o, err := readProblem(problem)
		if err != nil {
			return err
		}
		ctx := context.Background()
		if t := float64(problem.timeout_seconds); t > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(min(t*1e9, math.MaxInt64/2)))
			defer cancel()
		} else if t != 0 {
			return bad(placement.ErrValue, "timeout_seconds", "%v is not a number ≥ 0", t)
		}
		r, err := eplb.Plan(ctx, p, o)
		if err != nil {
			return err
		}
		writePlan(result, &r, &p)
		return nil
	})
}

// readProblem checks the dimensions, because they say how much may be read, and
// leaves the rest to eplb.
func readProblem(c *C.moelb_problem) (p eplb.Problem, o eplb.Options, err error) {
	dimensions := []struct {
		field       string
		from        C.int64_t
		to          *int
		least, most int
	}{
		{"num_replicas", c.num_replicas, &p.Replicas, 1, placement.MaxSlots},
		{"num_groups", c.num_groups, &p.Groups, 0, placement.MaxExperts},
		{"num_nodes", c.num_nodes, &p.Topology.Nodes, 0, placement.MaxGPUs},
		{"num_gpus", c.num_gpus, &p.Topology.GPUs, 1, placement.MaxGPUs},
		{"off_node_replicas", c.off_node_replicas, &o.OffNodeReplicas, 0, placement.MaxSlots},
		{"max_moves", c.max_moves, &o.MaxMoves, math.MinInt32, math.MaxInt32},
		{"restarts", c.restarts, &o.Restarts, math.MinInt32, 1 << 20},
		{"workers", c.workers, &o.Workers, 0, 1 << 16},
	}
	for _, d := range dimensions {
		if *d.to, err = size(d.field, d.from, d.least, d.most); err != nil {
			return p, o, err
		}
	}
	o.Policy, o.Locality, o.Dispatch = eplb.Policy(c.policy), eplb.Locality(c.locality), eplb.Dispatch(c.dispatch)
	o.TwoNodes = c.two_nodes != 0
	if err = readUnit(c, &p, &o); err != nil {
		return p, o, err
	}
	o.Target, o.Tolerance = float64(c.target), float64(c.tolerance)
	windows, err := readLoads(c)
	if err != nil {
		return p, o, err
	}
	p.Loads = windows[0]
	if len(windows) > 1 {
		p.Loads, p.Windows = nil, windows
	}
	if c.gpu_speed != nil {
		p.Topology.Speed = unsafe.Slice((*float64)(c.gpu_speed), p.Topology.GPUs)
	}
	if c.previous == nil {
		return p, o, nil
	}
	v := &placement.Placement{Experts: int(c.experts), GPUs: p.Topology.GPUs}
	slots := p.Replicas
	if c.previous_slots != 0 {
		if slots, err = size("previous_slots", c.previous_slots, 1, placement.MaxSlots); err != nil {
			return p, o, err
		}
	}
	if c.previous_gpus != 0 {
		if v.GPUs, err = size("previous_gpus", c.previous_gpus, 1, placement.MaxGPUs); err != nil {
			return p, o, err
		}
	}
	if v.PhysicalToLogical, err = readSlots("previous", c.previous, int(c.layers), slots); err != nil {
		return p, o, err
	}
	if slots%v.GPUs != 0 {
		v.GPUSlots = placement.EvenSlots(slots, v.GPUs)
	}
	p.Previous = v
	return p, o, nil
}

// readUnit reads nodes and domains of their own sizes, and who is everywhere.
func readUnit(c *C.moelb_problem, p *eplb.Problem, o *eplb.Options) error {
	t := &p.Topology
	lists := []struct {
		field  string
		from   *C.int64_t
		n      C.int64_t
		to     *[]int
		most   int
		single bool // a number alone means something
	}{
		{"gpus_per_node", c.gpus_per_node, c.nodes, &t.NodeGPUs, t.GPUs, false},
		{"domains", c.domain_gpus, c.domains, &t.DomainGPUs, t.GPUs, true},
		{"everywhere", c.everywhere, c.everywhere_experts, &p.Everywhere, placement.MaxExperts, false},
	}
	for _, x := range lists {
		n, err := size(x.field, x.n, 0, x.most)
		if err != nil {
			return err
		}
		switch {
		case n == 0:
		case x.from != nil:
			for i, v := range unsafe.Slice((*int64)(x.from), n) {
				if v < 0 || v > placement.MaxCells {
					return &placement.Error{Field: x.field, Layer: -1, Index: i, Kind: placement.ErrValue, Detail: "out of range"}
				}
				*x.to = append(*x.to, int(v))
			}
		case !x.single:
			return missing(x.field)
		case t.GPUs%n != 0:
			return bad(placement.ErrShape, x.field, "%d GPUs cannot be shared evenly by %d domains: give the GPUs of each", t.GPUs, n)
		default:
			*x.to = slices.Repeat([]int{t.GPUs / n}, n)
		}
	}
	o.TwoDomains = c.two_domains != 0
	return nil
}

// readLoads returns the windows of loads: float64 are read in place.
func readLoads(c *C.moelb_problem) ([]placement.Loads, error) {
	if c.loads == nil {
		return nil, missing("loads")
	}
	layers, err := size("layers", c.layers, 1, placement.MaxLayers)
	if err != nil {
		return nil, err
	}
	experts, err := size("experts", c.experts, 1, placement.MaxExperts)
	if err != nil {
		return nil, err
	}
	if layers > placement.MaxCells/experts {
		return nil, bad(placement.ErrShape, "loads", "%d layers of %d experts: at most %d numbers are supported", layers, experts, placement.MaxCells)
	}
	windows, err := size("windows", c.windows, 0, placement.MaxCells/(layers*experts))
	if err != nil {
		return nil, err
	}
	windows = max(windows, 1)
	var cells []float64
	n := windows * layers * experts
	switch c.loads_type {
	case C.MOELB_FLOAT64:
		cells = unsafe.Slice((*float64)(c.loads), n)
	case C.MOELB_FLOAT32:
		cells = floats(unsafe.Slice((*float32)(c.loads), n))
	case C.MOELB_INT64:
		cells = floats(unsafe.Slice((*int64)(c.loads), n))
	case C.MOELB_INT32:
		cells = floats(unsafe.Slice((*int32)(c.loads), n))
	default:
		return nil, bad(placement.ErrValue, "loads_type", "%d is unknown", c.loads_type)
	}
	out := make([]placement.Loads, windows)
	for w := range out {
		out[w] = make(placement.Loads, layers)
		for l := range out[w] {
			out[w][l], cells = cells[:experts:experts], cells[experts:]
		}
	}
	return out, nil
}

func floats[T float32 | int64 | int32](cells []T) []float64 {
	out := make([]float64, len(cells))
	for i, x := range cells {
		out[i] = float64(x)
	}
	return out
}

// readSlots copies a placement's rows.
func readSlots(field string, from *C.int64_t, layers, slots int) ([][]int, error) {
	if layers > placement.MaxCells/slots {
		return nil, bad(placement.ErrShape, field, "%d layers of %d slots: at most %d slots in all are supported", layers, slots, placement.MaxCells)
	}
	cells := make([]int, layers*slots)
	for i, e := range unsafe.Slice((*int64)(from), len(cells)) {
		if e < -1 || e >= placement.MaxExperts {
			return nil, &placement.Error{Field: field, Layer: i / slots, Index: i % slots, Kind: placement.ErrValue, Detail: "not an expert's number, nor -1 for an empty slot"}
		}
		cells[i] = int(e)
	}
	rows := make([][]int, layers)
	for l := range rows {
		rows[l] = cells[l*slots : (l+1)*slots : (l+1)*slots]
	}
	return rows, nil
}

// writePlan fills the arrays that the caller gave.
func writePlan(c *C.moelb_plan_result, r *eplb.Result, p *eplb.Problem) {
	layers, experts, slots := len(r.Layers), r.Placement.Experts, r.Placement.Slots()
	expert, rank, count := cells(c.physical_to_logical, layers*slots), cells(c.replica_rank, layers*slots), cells(c.logical_count, layers*experts)
	imbalance, bound := doubles(c.imbalance, layers), doubles(c.lower_bound, layers)
	moves := cells(c.moves, layers)
	var status []int32
	if c.status != nil {
		status = unsafe.Slice((*int32)(c.status), layers)
	}
	replicas := make([]int64, experts) // of each expert in one layer
	most := int64(0)
	for l, row := range r.Placement.PhysicalToLogical {
		clear(replicas)
		for s, e := range row {
			if expert != nil {
				expert[l*slots+s] = int64(e)
			}
			n := int64(-1)
			if e >= 0 {
				n = replicas[e]
				replicas[e]++
				most = max(most, replicas[e])
			}
			if rank != nil {
				if r.Placement.ReplicaRank != nil && e >= 0 {
					n = int64(r.Placement.ReplicaRank[l][s])
				}
				rank[l*slots+s] = n
			}
		}
		if count != nil {
			copy(count[l*experts:], replicas)
		}
		if imbalance != nil {
			imbalance[l] = r.Layers[l].Imbalance
		}
		if bound != nil {
			bound[l] = r.Layers[l].LowerBound
		}
		if moves != nil {
			moves[l] = int64(r.Layers[l].Moves)
		}
		if status != nil {
			status[l] = int32(r.Layers[l].Status)
		}
	}
	if each := cells(c.gpu_slots, p.Topology.GPUs); each != nil {
		for g, n := range placement.EvenSlots(slots, p.Topology.GPUs) {
			each[g] = int64(n)
		}
	}
	c.max_replicas = C.int64_t(most)
}

// cells is an array of the caller's, nil where it is NULL.
func cells(p *C.int64_t, n int) []int64 {
	if p == nil {
		return nil
	}
	return unsafe.Slice((*int64)(p), n)
}

func doubles(p *C.double, n int) []float64 {
	if p == nil {
		return nil
	}
	return unsafe.Slice((*float64)(p), n)
}
