package main

/*
#define MOELB_NO_PROTOTYPES
#include "moelb.h"
*/
import "C"

import (
	"fmt"

	"github.com/moelb/moelb/placement"
)

//export moelb_logical_to_physical
func moelb_logical_to_physical(layers, experts, slots C.int64_t, physicalToLogical, replicaRank *C.int64_t, width C.int64_t, slotsOf *C.int64_t, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() (err error) {
		var n struct{ layers, experts, slots, width int }
		for _, d := range []struct {
			field string
			from  C.int64_t
			to    *int
			most  int
		}{
			{"layers", layers, &n.layers, placement.MaxLayers},
			{"experts", experts, &n.experts, placement.MaxExperts},
			{"slots", slots, &n.slots, placement.MaxSlots},
			{"width", width, &n.width, placement.MaxSlots},
		} {
			if *d.to, err = size(d.field, d.from, 1, d.most); err != nil {
				return err
			}
		}
		switch {
		case physicalToLogical == nil:
			return missing("physical_to_logical_map")
		case slotsOf == nil:
			return missing("slots_of")
		case n.layers > placement.MaxCells/n.slots:
			return bad(placement.ErrShape, "physical_to_logical_map", "%d layers of %d slots: at most %d slots in all are supported", n.layers, n.slots, placement.MaxCells)
		case float64(n.layers)*float64(n.experts)*float64(n.width) > 4*placement.MaxCells:
			return bad(placement.ErrShape, "width", "%d, for %d layers of %d experts: at most %d numbers are supported", n.width, n.layers, n.experts, 4*placement.MaxCells)
		}
		expert, rank := cells(physicalToLogical, n.layers*n.slots), cells(replicaRank, n.layers*n.slots)
		if rank == nil {
			rank = slotOrder(expert, n.slots, n.experts)
		}
		for i, e := range expert {
			detail := ""
			switch {
			case e < -1 || e >= int64(n.experts):
				detail = fmt.Sprintf("expert %d: there are %d, and -1 for an empty slot", e, n.experts)
			case e >= 0 && (rank[i] < 0 || rank[i] >= int64(n.width)):
				detail = fmt.Sprintf("replica %d of expert %d: width is %d", rank[i], e, n.width)
			}
			if detail != "" {
				return &placement.Error{Field: "physical_to_logical_map", Layer: i / n.slots, Index: i % n.slots, Kind: placement.ErrValue, Detail: detail}
			}
		}
		out := cells(slotsOf, n.layers*n.experts*n.width)
		for i := range out {
			out[i] = -1
		}
		for i, e := range expert {
			if e >= 0 {
				out[(i/n.slots*n.experts+int(e))*n.width+int(rank[i])] = int64(i % n.slots)
			}
		}
		return nil
	})
}

// slotOrder ranks the replicas of each expert in the order of their slots.
func slotOrder(expert []int64, slots, experts int) []int64 {
	rank := make([]int64, len(expert))
	next := make([]int64, experts)
	for i, e := range expert {
		if i%slots == 0 {
			clear(next)
		}
		if e >= 0 && e < int64(experts) {
			rank[i] = next[e]
			next[e]++
		}
	}
	return rank
}
