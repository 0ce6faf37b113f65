package pack

import (
	"math"
	"slices"
)

// Pack places the replicas that s.Count asks for: experts by the size of a
// replica, largest first (longest processing time first), each on as many
// different GPUs as it has replicas, those that are lightest after it. An expert
// is never twice on one GPU. Rooms differ by at most one or are full of all experts.
// Cost: O(slots·log GPUs) for equal speeds, O(slots·GPUs) otherwise and where that comes
// to a dead end.
func (s *Packer) Pack() {
	if !s.U.Equal || !s.packAlike() {
		s.packEach(false)
	}
}

// PackApart is Pack for a split: the replicas of an expert go, as far as possible, to
// GPUs that no chain of shared experts joins yet. Tokens can then pass between as many
// GPUs as the copies can join: packed by size alone 256 experts on 32 GPUs of 9 slots
// stand 2% higher on batches.
func (s *Packer) PackApart() { s.packEach(true) }

// packAlike packs for GPUs of equal speed. It returns false at a dead end: all GPUs with
// room hold an expert that is to come.
func (s *Packer) packAlike() bool {
	u := s.U
	s.Begin()
	gpus := s.gpus[:0] // those with room
	for g := range u.Speed {
		if u.Room(g) > 0 {
			gpus = append(gpus, int32(g))
		}
	}
	lighter := func(a, b int32) int { return Order(s.Load[a], s.Load[b], a, b) }
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

// packEach takes one replica after another where load/speed is least after it, and with
// apart first to GPUs that are not joined yet.
func (s *Packer) packEach(apart bool) {
	s.Begin()
	for g := range s.root {
		s.root[g] = g
	}
	for _, e := range s.Ranked {
		joined := -1 // a GPU of the tree that e is in so far
		far := func(gpu int) bool { return joined >= 0 && s.root[gpu] != s.root[joined] }
		for range s.Count[e] {
			g := s.LightestFor(e, far)
			if g < 0 {
				s.squeeze(e)
				continue
			}
			s.Put(e, g)
			if far(g) {
				was := s.root[g]
				for q, root := range s.root {
					if root == was {
						s.root[q] = s.root[joined]
					}
				}
			}
			if apart {
				joined = g
			}
		}
	}
}

// Begin lists the experts by size and empties all slots.
func (s *Packer) Begin() {
	s.BySize()
	for g := range s.U.Speed {
		s.Load[g], s.Used[g] = 0, int32(s.U.First[g])
	}
	clear(s.Has)
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

// squeeze places a replica of e although every GPU with room holds one: another
// GPU that does not gives one of its experts to the first with room, of all such
// exchanges the one after which the larger of the two levels is least. There is one:
// where there is room for one more e is among the others, and any GPU without e is full,
// so that one of its experts is not there.
func (s *Packer) squeeze(e int32) {
	u, q := s.U, 0
	for int(s.Used[q]) == u.First[q+1] {
		q++
	}
	at, from, level := 0, 0, math.Inf(1)
	for p, v := range u.Speed {
		for i := u.First[p]; i < int(s.Used[p]) && !s.Holds(p, e); i++ {
			x := s.Slot[i]
			if l := max((s.Load[p]-s.Size[x]+s.Size[e])/v, (s.Load[q]+s.Size[x])/u.Speed[q]); l < level && !s.Holds(q, x) {
				at, from, level = i, p, l
			}
		}
	}
	x := s.Slot[at]
	s.Slot[at] = e
	s.Load[from] += s.Size[e] - s.Size[x]
	s.Has[from*s.Words+int(x>>6)] &^= 1 << (x & 63)
	s.Has[from*s.Words+int(e>>6)] |= 1 << (e & 63)
	s.Put(x, q)
}
