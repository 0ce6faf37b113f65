package eplb

import (
	"math"
	"slices"
)

// solver searches for a placement of one layer on one unit. Its memory is used
// again for every layer. Loads are scaled so that the mean of load/speed over
// the unit's GPUs is 1: a level is then an imbalance.
type solver struct {
	u     *unit
	words int // of a GPU's set of experts

	w     []float64 // load of each expert
	idle  bool      // the layer has no load: w are all alike
	order []int32   // experts by load, largest first

	// The placement at hand.
	count []int32   // replicas of each expert
	size  []float64 // load of one replica
	slot  []int32   // expert in each slot
	load  []float64 // of each GPU
	used  []int32   // first free slot of each GPU
	has   []uint64  // the set of experts of each GPU

	best layout

	heap     []heapItem
	popped   []heapItem
	multi    []int32
	ranked   []int32
	frozen   []bool
	sz       []float64 // size of the replica in each slot
	pairsH   []pair
	pairsG   []pair
	squeezed int   // slots looked at by squeeze in this packing
	least    int32 // replicas that every expert has at least
	looked   int   // slots and pairs of slots that swap looked at in this descent
}

// layout is a placement kept aside.
type layout struct {
	slot  []int32
	count []int32
	level float64 // largest load/speed: +Inf = none yet
}

func newSolver(u *unit, experts int) *solver {
	gpus := len(u.gpu)
	words := (experts + 63) / 64
	return &solver{
		u: u, words: words, least: 1,
		w: make([]float64, experts), order: make([]int32, experts),
		count: make([]int32, experts), size: make([]float64, experts),
		slot: make([]int32, u.slots), load: make([]float64, gpus), used: make([]int32, gpus), has: make([]uint64, gpus*words),
		best:   layout{slot: make([]int32, u.slots), count: make([]int32, experts)},
		heap:   make([]heapItem, 0, max(experts, gpus)),
		popped: make([]heapItem, 0, gpus), multi: make([]int32, 0, experts), ranked: make([]int32, 0, experts),
		sz: make([]float64, u.slots),
	}
}

// setLoads scales the loads of a layer and sorts its experts. A layer without
// load counts as one whose experts are all alike.
func (s *solver) setLoads(loads []float64) {
	total := 0.0
	for _, x := range loads {
		total += x
	}
	// Sizes whose scale would not be a normal number are brought near 1 first,
	// by a power of two, which changes no digit of theirs.
	shift := 0
	if total != 0 && (total < 1e-280 || total > 1e280) {
		_, shift = math.Frexp(total)
		total = math.Ldexp(total, -shift)
	}
	scale := float64(len(s.u.gpu)) / total
	for e, x := range loads {
		switch {
		case total == 0:
			s.w[e] = float64(len(s.u.gpu)) / float64(len(loads))
		case shift != 0:
			s.w[e] = math.Ldexp(x, -shift) * scale
		default:
			s.w[e] = x * scale
		}
	}
	s.idle = total == 0
	s.sortExperts()
	s.best.level = math.Inf(1)
}

// sortExperts lists the experts by load, largest first, ties by index.
func (s *solver) sortExperts() {
	for e := range s.order {
		s.order[e] = int32(e)
	}
	slices.SortFunc(s.order, func(a, b int32) int {
		switch {
		case s.w[a] > s.w[b]:
			return -1
		case s.w[a] < s.w[b]:
			return 1
		}
		return int(a - b)
	})
}

// level is the largest load/speed of a GPU in the placement at hand.
func (s *solver) level() float64 {
	top := 0.0
	for g, v := range s.u.speed {
		top = max(top, s.load[g]/v)
	}
	return top
}

// keep puts the placement at hand aside if it is the best so far.
func (s *solver) keep() {
	s.refresh()
	if l := s.level(); l < s.best.level {
		s.best.level = l
		copy(s.best.slot, s.slot)
		copy(s.best.count, s.count)
	}
}

// refresh adds up the loads of the GPUs anew: many small changes leave rounding behind.
func (s *solver) refresh() {
	for g := range s.load {
		sum := 0.0
		for _, e := range s.slot[s.u.first[g]:s.u.first[g+1]] {
			sum += s.size[e]
		}
		s.load[g] = sum
	}
}

// provedTolerance is how near a level must come to its bound to be called
// equal: what rounding leaves.
const provedTolerance = 1e-9
