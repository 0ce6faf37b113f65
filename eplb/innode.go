package eplb

import "math"

// nodeSolver places what is on one node on its GPUs.
type nodeSolver struct {
	s      *solver
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
	s.w, s.order, s.count, s.size = s.w[:m], s.order[:m], s.count[:m], s.size[:m]
	sorted := true
	for i, e := range ns.ids {
		s.w[i] = w[e]
		s.order[i] = int32(i)
		sorted = sorted && (i == 0 || s.w[i] <= s.w[i-1])
	}
	if !sorted {
		s.sortExperts()
	}
	s.best.level = math.Inf(1)
}

// replicaLevel is the least level that lets the replicas of every expert fit
// the node's slots, one a GPU.
func (ns *nodeSolver) replicaLevel() float64 {
	s := ns.s
	if len(s.u.gpu) == 0 || !s.adams(s.u.slots, len(s.u.gpu), nil) {
		return 0
	}
	most := 0.0
	for e, w := range s.w {
		most = max(most, w/float64(s.count[e]))
	}
	return most / s.u.fastest()
}

// solve places the experts taken on the node's GPUs and returns the level, as
// near to bound as it gets. Guests, whose home is elsewhere, get one replica.
func (ns *nodeSolver) solve(bound, tolerance float64, stop func() bool) float64 {
	s := ns.s
	if len(s.u.gpu) == 0 {
		s.best.level = 0
		return 0
	}
	most := len(s.u.gpu)
	goal := bound * (1 + tolerance)
	var guests []bool
	if ns.guests > 0 {
		guests = make([]bool, len(s.w))
		for i := range guests {
			if s.count[i] = 1; i >= ns.locals && i < ns.locals+ns.guests {
				guests[i] = true
			}
		}
	}
	if s.adams(s.u.slots, most, guests) {
		if s.pack() {
			s.swap(goal)
		} else {
			s.deal()
		}
		s.keep()
	}
	if ns.guests > 0 {
		return s.best.level
	}
	for _, c := range capLimits {
		if s.best.level <= goal || stop() {
			break
		}
		if s.capped(s.u.slots, most, c*bound) && s.pack() {
			s.swap(goal)
			s.keep()
		}
	}
	for tries := recountTries; s.best.level > goal && !stop() && ns.recount(goal, &tries); {
	}
	return s.best.level
}

// recountTries bounds the packings that moving single copies may cost a node with
// GPUs of some ten slots, twofold.
const recountTries = 800

// recount moves one copy from an expert to another in the best placement, the
// first way that lowers the level, and says whether there was one. Each packing
// tried is taken off tries.
func (ns *nodeSolver) recount(goal float64, tries *int) bool {
	s := ns.s
	most := int32(len(s.u.gpu))
	level := s.best.level
	for _, e := range s.order {
		if s.best.count[e] < 2 {
			continue
		}
		for _, f := range s.order[:min(len(s.order), 16)] {
			if f == e || s.best.count[f] >= most {
				continue
			}
			// The exchanges of pairs grow with the slots of a GPU.
			room := s.u.room(0)
			if *tries -= 1 + room*room*room/512; *tries < 0 {
				return false
			}
			copy(s.count, s.best.count)
			s.count[e]--
			s.count[f]++
			if s.w[e]/float64(s.count[e]) >= level {
				continue
			}
			if s.pack() {
				s.swap(goal)
				s.keep()
				if s.best.level < level {
					return true
				}
			}
		}
	}
	return false
}
