package homes

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// nodeSolver places what is on one node on its GPUs.
type nodeSolver struct {
	s      *pack.Packer
	lo, hi int     // its GPUs in the whole unit
	power  float64 // their speeds, summed
	ids    []int32 // the experts on it, as the whole unit numbers them
	pseudo []int32 // its pseudo-experts
	// Of ids the first are the experts whose home the node is, then come guests.
	locals, guests int
}

// gpus is the number of its GPUs.
func (ns *nodeSolver) gpus() int { return ns.hi - ns.lo }

// take gives the node's solver the loads of its experts.
func (ns *nodeSolver) take(w []float64) {
	s, m := ns.s, len(ns.ids)
	s.W, s.Order, s.Count, s.Size = s.W[:m], s.Order[:m], s.Count[:m], s.Size[:m]
	sorted := true
	for i, e := range ns.ids {
		s.W[i] = w[e]
		s.Order[i] = int32(i)
		sorted = sorted && (i == 0 || s.W[i] <= s.W[i-1])
	}
	if !sorted {
		s.SortExperts()
	}
	s.Best.Level = math.Inf(1)
}

// replicaLevel is the least level that lets the replicas of every expert fit
// the node's slots, one a GPU.
func (ns *nodeSolver) replicaLevel() float64 {
	s := ns.s
	if len(s.U.Gpu) == 0 || !s.Adams(s.U.Slots, len(s.U.Gpu), nil) {
		return 0
	}
	most := 0.0
	for e, w := range s.W {
		most = max(most, w/float64(s.Count[e]))
	}
	return most / s.U.Fastest()
}

// solve places the experts taken on the node's GPUs and returns the level, as
// near to bound as it gets. Guests, whose home is elsewhere, get one replica.
func (ns *nodeSolver) solve(bound, tolerance float64, stop func() bool) float64 {
	s := ns.s
	if len(s.U.Gpu) == 0 {
		s.Best.Level = 0
		return 0
	}
	most := len(s.U.Gpu)
	goal := bound * (1 + tolerance)
	var guests []bool
	if ns.guests > 0 {
		guests = make([]bool, len(s.W))
		for i := range guests {
			if s.Count[i] = 1; i >= ns.locals && i < ns.locals+ns.guests {
				guests[i] = true
			}
		}
	}
	if s.Adams(s.U.Slots, most, guests) {
		if s.Pack() {
			s.Swap(goal)
		} else {
			s.Deal()
		}
		s.Keep()
	}
	if ns.guests > 0 {
		return s.Best.Level
	}
	for _, c := range pack.CapLimits {
		if s.Best.Level <= goal || stop() {
			break
		}
		if s.Capped(s.U.Slots, most, c*bound) && s.Pack() {
			s.Swap(goal)
			s.Keep()
		}
	}
	for tries := recountTries; s.Best.Level > goal && !stop() && ns.recount(goal, &tries); {
	}
	return s.Best.Level
}

// recountTries bounds the packings that moving single copies may cost a node with
// GPUs of some ten slots, twofold.
const recountTries = 800

// recount moves one copy from an expert to another in the best placement, the
// first way that lowers the level, and says whether there was one. Each packing
// tried is taken off tries.
func (ns *nodeSolver) recount(goal float64, tries *int) bool {
	s := ns.s
	most := int32(len(s.U.Gpu))
	level := s.Best.Level
	for _, e := range s.Order {
		if s.Best.Count[e] < 2 {
			continue
		}
		for _, f := range s.Order[:min(len(s.Order), 16)] {
			if f == e || s.Best.Count[f] >= most {
				continue
			}
			// The exchanges of pairs grow with the slots of a GPU.
			room := s.U.Room(0)
			if *tries -= 1 + room*room*room/512; *tries < 0 {
				return false
			}
			copy(s.Count, s.Best.Count)
			s.Count[e]--
			s.Count[f]++
			if s.W[e]/float64(s.Count[e]) >= level {
				continue
			}
			if s.Pack() {
				s.Swap(goal)
				s.Keep()
				if s.Best.Level < level {
					return true
				}
			}
		}
	}
	return false
}
