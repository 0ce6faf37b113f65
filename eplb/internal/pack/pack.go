package pack

import (
	"math"
	"slices"
)

// Pack places the replicas that s.Count asks for: experts by the size of a
// replica, largest first (longest processing time first), each on as many
// different GPUs as it has replicas, those that are lightest after it. An expert
// is never twice on one GPU. Rooms differ by at most one or are full of all experts.
// Cost: O(slots·log GPUs) for equal speeds, O(experts·GPUs·log GPUs) otherwise.
func (s *Packer) Pack() { s.pack(false) }

// PackApart is Pack for a split: the replicas of an expert go, as far as possible, to
// GPUs that no chain of shared experts joins yet. Tokens can then pass between as many
// GPUs as the copies can join: packed by size alone 256 experts on 32 GPUs of 9 slots
// stand 2% higher on batches.
func (s *Packer) PackApart() { s.pack(true) }

// pack takes the lightest GPU for one replica after another, with apart first those that
// are not joined yet.
func (s *Packer) pack(apart bool) {
	u := s.U
	s.Begin()
	gpus := s.gpus[:0] // those with room, the lightest first
	for g := range u.Speed {
		if s.root[g] = g; u.Room(g) > 0 {
			gpus = append(gpus, int32(g))
		}
	}
	for _, e := range s.Ranked {
		after := 0.0 // where speeds differ, the order depends on what comes
		if !u.Equal {
			after = s.Size[e]
		}
		lighter := func(a, b int32) int {
			return Order((s.Load[a]+after)*u.Speed[b], (s.Load[b]+after)*u.Speed[a], a, b)
		}
		if !u.Equal {
			slices.SortFunc(gpus, lighter)
		}
		joined := -1 // a GPU of the tree that e is in so far
		fits := func(g int32) bool { return !s.Holds(int(g), e) }
		far := func(g int32) bool { return fits(g) && (joined < 0 || s.root[g] != s.root[joined]) }
		for range s.Count[e] {
			i := slices.IndexFunc(gpus, far)
			if i < 0 {
				i = slices.IndexFunc(gpus, fits)
			}
			if i < 0 {
				s.squeeze(e)
				gpus = slices.DeleteFunc(gpus, func(g int32) bool { return int(s.Used[g]) == u.First[g+1] })
				slices.SortFunc(gpus, lighter)
				continue
			}
			g := int(gpus[i])
			if s.Put(e, g); int(s.Used[g]) == u.First[g+1] {
				gpus = slices.Delete(gpus, i, i+1)
			} else if u.Equal {
				Sink(gpus[i:], lighter)
			}
			if joined >= 0 {
				for q, was := 0, s.root[g]; q < len(s.root); q++ {
					if s.root[q] == was {
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
