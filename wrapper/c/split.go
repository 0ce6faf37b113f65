package main

/*
#define MOELB_NO_PROTOTYPES
#include "moelb.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/moelb/moelb/eplb/split"
	"github.com/moelb/moelb/placement"
)

// splitter is an split.Splitter that threads share.
type splitter struct {
	mu                     sync.Mutex
	s                      *split.Splitter
	layers, experts, slots int
	quota                  []int64   // [layers][slots], so that a batch that fails writes nothing
	imbalance              []float64 // [layers]
}

var splitters handles[*splitter]

//export moelb_splitter_open
func moelb_splitter_open(p *C.moelb_placement, handle *C.moelb_handle, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() error {
		if p == nil {
			return missing("placement")
		}
		if handle == nil {
			return missing("splitter")
		}
		if err := sized("placement", p.size, unsafe.Sizeof(*p)); err != nil {
			return err
		}
		q, t, err := readPlacement(p)
		if err != nil {
			return err
		}
		s, err := split.New(&q, t)
		if err != nil {
			return err
		}
		layers, slots := len(q.PhysicalToLogical), q.Slots()
		*handle = C.moelb_handle(splitters.add(&splitter{s: s, layers: layers, experts: q.Experts, slots: slots,
			quota: make([]int64, layers*slots), imbalance: make([]float64, layers)}))
		return nil
	})
}

func readPlacement(c *C.moelb_placement) (p placement.Placement, t placement.Topology, err error) {
	if p.Experts, err = size("experts", c.experts, 1, placement.MaxExperts); err != nil {
		return p, t, err
	}
	if p.GPUs, err = size("num_gpus", c.num_gpus, 1, placement.MaxGPUs); err != nil {
		return p, t, err
	}
	layers, err := size("layers", c.layers, 1, placement.MaxLayers)
	if err != nil {
		return p, t, err
	}
	slots, err := size("slots", c.slots, 1, placement.MaxSlots)
	if err != nil {
		return p, t, err
	}
	const field = "physical_to_logical_map"
	if c.physical_to_logical == nil {
		return p, t, missing(field)
	}
	if p.PhysicalToLogical, err = readSlots(field, c.physical_to_logical, layers, slots); err != nil {
		return p, t, err
	}
	if each := cells(c.gpu_slots, p.GPUs); each != nil {
		p.GPUSlots = make([]int, p.GPUs)
		for g, n := range each {
			if p.GPUSlots[g], err = size("gpu_slots", C.int64_t(n), 0, slots); err != nil {
				return p, t, err
			}
		}
	} else if slots%p.GPUs != 0 {
		p.GPUSlots = placement.EvenSlots(slots, p.GPUs)
	}
	t.GPUs = p.GPUs
	if c.gpu_speed != nil {
		t.Speed = append(t.Speed, doubles((*C.double)(c.gpu_speed), p.GPUs)...)
	}
	return p, t, nil
}

//export moelb_split
func moelb_split(handle C.moelb_handle, firstLayer, layers C.int64_t, counts, quota *C.int64_t, imbalance *C.double, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() error {
		s, ok := splitters.get(uint64(handle))
		switch {
		case !ok:
			return fmt.Errorf("%w %d is not an open splitter", errHandle, handle)
		case counts == nil:
			return missing("counts")
		case quota == nil:
			return missing("quota")
		}
		first, err := size("first_layer", firstLayer, 0, s.layers-1)
		if err != nil {
			return err
		}
		n, err := size("layers", layers, 1, s.layers-first)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		from := cells(counts, n*s.experts)
		for i := range n {
			l, err := s.s.Split(s.quota[i*s.slots:(i+1)*s.slots], first+i, from[i*s.experts:(i+1)*s.experts])
			if err != nil {
				return err
			}
			s.imbalance[i] = l.Imbalance
		}
		copy(cells(quota, n*s.slots), s.quota)
		copy(doubles(imbalance, n), s.imbalance)
		return nil
	})
}

//export moelb_splitter_close
func moelb_splitter_close(handle C.moelb_handle, message *C.char, messageSize C.size_t) C.int {
	return guard(message, messageSize, func() error {
		if !splitters.release(uint64(handle)) {
			return fmt.Errorf("%w %d is not an open splitter", errHandle, handle)
		}
		return nil
	})
}
