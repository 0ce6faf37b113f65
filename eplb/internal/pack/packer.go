package pack

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/problem"
)

// Packer searches for a placement of one layer on one unit. Its memory is used
// again for every layer. Loads are scaled so that the mean of load/speed over
// the unit's GPUs is 1: a level is then an imbalance.
type Packer struct {
	U     *problem.Unit
	Words int // of a GPU's set of experts

	W     []float64 // load of each expert
	Idle  bool      // the layer has no load: w are all alike
	Order []int32   // experts by load, largest first

	// The placement at hand.
	Count []int32   // replicas of each expert
	Size  []float64 // load of one replica
	Slot  []int32   // expert in each slot
	Load  []float64 // of each GPU
	Used  []int32   // first free slot of each GPU
	Has   []uint64  // the set of experts of each GPU

	Best Layout

	Ranked   []int32
	keys     []uint64 // of sorted
	gpus     []int32
	parts    []part // of each slot, by size on each GPU
	ofH, ofG []part
	root     []int // of the tree of GPUs that share experts, of each GPU
	Least    int32 // replicas that every expert has at least
	looked   int   // slots and pairs of slots that swap looked at in this descent
}

// Layout is a placement kept aside.
type Layout struct {
	Slot  []int32
	Count []int32
	Level float64 // largest load/speed: +Inf = none yet
}

func New(u *problem.Unit, experts int) *Packer {
	gpus := len(u.Gpu)
	words := (experts + 63) / 64
	return &Packer{
		U: u, Words: words, Least: 1,
		W: make([]float64, experts), Order: make([]int32, experts),
		Count: make([]int32, experts), Size: make([]float64, experts),
		Slot: make([]int32, u.Slots), Load: make([]float64, gpus), Used: make([]int32, gpus), Has: make([]uint64, gpus*words),
		Best:   Layout{Slot: make([]int32, u.Slots), Count: make([]int32, experts)},
		Ranked: make([]int32, 0, experts), gpus: make([]int32, 0, gpus), root: make([]int, gpus), parts: make([]part, u.Slots),
	}
}

// SetLoads scales the loads of a layer and sorts its experts. A layer without
// load counts as one whose experts are all alike.
func (s *Packer) SetLoads(loads []float64) {
	total, gpus := problem.Sum(loads), float64(len(s.U.Gpu))
	s.Idle = total == 0
	for e, x := range loads {
		if s.W[e] = x * (gpus / total); s.Idle {
			s.W[e] = gpus / float64(len(loads))
		}
	}
	s.SortExperts()
	s.Best.Level = math.Inf(1)
}

// SortExperts lists the experts by load, largest first, ties by index.
func (s *Packer) SortExperts() { s.Order = s.sorted(s.Order, s.W) }

// sorted lists the experts by what x says of each, largest first, ties by index. It
// sorts them by x as float32, which is quick, and inserts what that got wrong.
func (s *Packer) sorted(list []int32, x []float64) []int32 {
	s.keys = s.keys[:0]
	for e, v := range x {
		s.keys = append(s.keys, uint64(^(math.Float32bits(float32(v))&math.MaxInt32))<<32|uint64(e))
	}
	slices.Sort(s.keys)
	list = list[:len(x)]
	for i, k := range s.keys {
		e := int32(uint32(k))
		for ; i > 0 && x[list[i-1]] < x[e]; i-- {
			list[i] = list[i-1]
		}
		list[i] = e
	}
	return list
}

// Fullest is the GPU of the largest load/speed in the placement at hand, and that
// level.
func (s *Packer) Fullest() (gpu int, level float64) {
	for g, v := range s.U.Speed {
		if l := s.Load[g] / v; l > level {
			gpu, level = g, l
		}
	}
	return gpu, level
}

// Keep puts the placement at hand aside if it is the best so far.
func (s *Packer) Keep() {
	s.Refresh()
	if _, l := s.Fullest(); l < s.Best.Level {
		s.Best.Level = l
		copy(s.Best.Slot, s.Slot)
		copy(s.Best.Count, s.Count)
	}
}

// Refresh adds up the loads of the GPUs anew: many small changes leave rounding behind.
// A slot may be empty, -1.
func (s *Packer) Refresh() {
	for g := range s.Load {
		sum := 0.0
		for _, e := range s.Slot[s.U.First[g]:s.U.First[g+1]] {
			if e >= 0 {
				sum += s.Size[e]
			}
		}
		s.Load[g] = sum
	}
}

// ProvedTolerance is how near a level must come to its bound to be called
// equal: what rounding leaves.
const ProvedTolerance = 1e-9
