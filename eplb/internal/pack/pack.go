package pack

import "slices"

// squeezeWork bounds what one packing spends on squeezing, in slots looked at: a
// tenth of a second or so, which only layers of 100,000 slots take.
const squeezeWork = 1 << 26

// Pack places the replicas that s.count asks for: experts by the size of a
// replica, largest first (longest processing time first), each on as many
// different GPUs as it has replicas, those that are lightest after it. An expert
// is never twice on one GPU. It returns false if that could not be kept.
// Cost: O(slots·log GPUs) for equal speeds, O(slots·GPUs) otherwise.
func (s *Packer) Pack() bool {
	u := s.U
	if s.Begin(); !u.Equal {
		return s.packBySpeed()
	}
	gpus := s.gpus[:0] // those with room
	for g := range u.Speed {
		if u.Room(g) > 0 {
			gpus = append(gpus, int32(g))
		}
	}
	lighter := func(a, b int32) int { return order(s.Load[a], s.Load[b], a, b) }
	for _, e := range s.Ranked {
		n := int(s.Count[e])
		if n > len(gpus) {
			return false
		}
		for i := n - 1; i >= 0; i-- {
			g := gpus[i]
			if s.Put(e, int(g)); int(s.Used[g]) < u.First[g+1] {
				Sink(gpus[i:], lighter)
			} else {
				gpus = slices.Delete(gpus, i, i+1)
			}
		}
	}
	return true
}

// Begin lists the experts by size and empties all slots.
func (s *Packer) Begin() {
	s.BySize()
	s.squeezed = 0
	for g := range s.U.Speed {
		s.Load[g], s.Used[g] = 0, int32(s.U.First[g])
	}
	clear(s.Has)
}

// packBySpeed is pack for GPUs of unequal speed: each replica goes where
// load/speed is least after it.
func (s *Packer) packBySpeed() bool {
	for _, e := range s.Ranked {
		for range s.Count[e] {
			if g := s.LightestFor(e, nil); g >= 0 {
				s.Put(e, g)
			} else if !s.Squeeze(e) {
				return false
			}
		}
	}
	return true
}

// LightestFor is the GPU with room and without e where load/speed is least with
// a replica of e, of those that first passes (nil = all) if there are any; -1 if
// there is none.
func (s *Packer) LightestFor(e int32, first func(gpu int) bool) int {
	u := s.U
	best, level, passed := -1, 0.0, false
	for g, v := range u.Speed {
		if int(s.Used[g]) == u.First[g+1] || s.Holds(g, e) {
			continue
		}
		l, passes := (s.Load[g]+s.Size[e])/v, first != nil && first(g)
		if best < 0 || passes && !passed || passes == passed && l < level {
			best, level, passed = g, l, passes
		}
	}
	return best
}

// Put places a replica of e in the next free slot of GPU g.
func (s *Packer) Put(e int32, g int) {
	s.Slot[s.Used[g]] = e
	s.Used[g]++
	s.Load[g] += s.Size[e]
	s.Has[g*s.Words+int(e>>6)] |= 1 << (e & 63)
}

// Holds says whether GPU g has a replica of e.
func (s *Packer) Holds(g int, e int32) bool {
	return s.Has[g*s.Words+int(e>>6)]>>(e&63)&1 != 0
}

// Squeeze places a replica of e although every GPU with room holds one: another
// GPU that does not gives one of its experts to the free slot, of all such
// exchanges the one after which the larger of the two levels is least.
func (s *Packer) Squeeze(e int32) bool {
	u := s.U
	bestFree, bestGPU, bestSlot, level := -1, -1, -1, 0.0
	for q := range u.Speed {
		if int(s.Used[q]) == u.First[q+1] {
			continue
		}
		if s.squeezed += u.Slots; s.squeezed > squeezeWork {
			return false
		}
		for p := range u.Speed {
			if p == q || s.Holds(p, e) {
				continue
			}
			for i := u.First[p]; i < int(s.Used[p]); i++ {
				x := s.Slot[i]
				if s.Holds(q, x) {
					continue
				}
				l := max((s.Load[p]-s.Size[x]+s.Size[e])/u.Speed[p], (s.Load[q]+s.Size[x])/u.Speed[q])
				if bestFree < 0 || l < level {
					bestFree, bestGPU, bestSlot, level = q, p, i, l
				}
			}
		}
	}
	if bestFree < 0 {
		return false
	}
	x := s.Slot[bestSlot]
	s.Slot[bestSlot] = e
	s.Load[bestGPU] += s.Size[e] - s.Size[x]
	s.Has[bestGPU*s.Words+int(x>>6)] &^= 1 << (x & 63)
	s.Has[bestGPU*s.Words+int(e>>6)] |= 1 << (e & 63)
	s.Put(x, bestFree)
	return true
}
