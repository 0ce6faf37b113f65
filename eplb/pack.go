package eplb

// squeezeWork bounds what one packing spends on squeezing, in slots looked at: a
// tenth of a second or so, which only layers of 100,000 slots take.
const squeezeWork = 1 << 26

// pack places the replicas that s.count asks for: experts by the size of a
// replica, largest first (longest processing time first), each on as many
// different GPUs as it has replicas, those that are lightest after it. An expert
// is never twice on one GPU. It returns false if that could not be kept.
// Cost: O(slots·log GPUs) for equal speeds, O(slots·GPUs) otherwise.
func (s *solver) pack() bool {
	u := s.u
	s.bySize()
	s.squeezed = 0
	for g := range u.speed {
		s.load[g] = 0
		s.used[g] = int32(u.first[g])
	}
	clear(s.has)
	if !u.equal {
		return s.packBySpeed()
	}
	h := s.heap[:0]
	for g := range u.speed {
		if u.room(g) > 0 {
			h = append(h, heapItem{id: int32(g)})
		}
	}
	for _, e := range s.ranked {
		n := int(s.count[e])
		x := s.size[e]
		if n == 1 {
			g := h[0].id
			s.put(e, int(g))
			if int(s.used[g]) == u.first[g+1] {
				h[0] = h[len(h)-1]
				h = h[:len(h)-1]
				if len(h) > 0 {
					sinkLoad(h)
				}
			} else {
				h[0].key += x
				sinkLoad(h)
			}
			continue
		}
		s.popped = s.popped[:0]
		for len(s.popped) < n && len(h) > 0 {
			s.popped = append(s.popped, h[0])
			h[0] = h[len(h)-1]
			h = h[:len(h)-1]
			if len(h) > 1 {
				sinkLoad(h)
			}
		}
		for _, it := range s.popped {
			s.put(e, int(it.id))
			if int(s.used[it.id]) < u.first[it.id+1] {
				h = append(h, heapItem{key: it.key + x, id: it.id})
				riseLoad(h)
			}
		}
		for range n - len(s.popped) {
			if !s.squeeze(e) {
				return false
			}
			// A slot was filled behind the heap's back: make it anew.
			h = h[:0]
			for g := range u.speed {
				if int(s.used[g]) < u.first[g+1] {
					h = append(h, heapItem{key: s.load[g], id: int32(g)})
					riseLoad(h)
				}
			}
		}
	}
	return true
}

// packBySpeed is pack for GPUs of unequal speed: each replica goes where
// load/speed is least after it.
func (s *solver) packBySpeed() bool {
	for _, e := range s.ranked {
		for range s.count[e] {
			if g := s.lightestFor(e); g >= 0 {
				s.put(e, g)
			} else if !s.squeeze(e) {
				return false
			}
		}
	}
	return true
}

// lightestFor is the GPU with room and without e where load/speed is least with
// a replica of e; -1 if there is none.
func (s *solver) lightestFor(e int32) int {
	u := s.u
	best, level := -1, 0.0
	for g, v := range u.speed {
		if int(s.used[g]) == u.first[g+1] || s.holds(g, e) {
			continue
		}
		if l := (s.load[g] + s.size[e]) / v; best < 0 || l < level {
			best, level = g, l
		}
	}
	return best
}

// put places a replica of e in the next free slot of GPU g.
func (s *solver) put(e int32, g int) {
	s.slot[s.used[g]] = e
	s.used[g]++
	s.load[g] += s.size[e]
	s.has[g*s.words+int(e>>6)] |= 1 << (e & 63)
}

// holds says whether GPU g has a replica of e.
func (s *solver) holds(g int, e int32) bool {
	return s.has[g*s.words+int(e>>6)]>>(e&63)&1 != 0
}

// squeeze places a replica of e although every GPU with room holds one: another
// GPU that does not gives one of its experts to the free slot, of all such
// exchanges the one after which the larger of the two levels is least.
func (s *solver) squeeze(e int32) bool {
	u := s.u
	bestFree, bestGPU, bestSlot, level := -1, -1, -1, 0.0
	for q := range u.speed {
		if int(s.used[q]) == u.first[q+1] {
			continue
		}
		if s.squeezed += u.slots; s.squeezed > squeezeWork {
			return false
		}
		for p := range u.speed {
			if p == q || s.holds(p, e) {
				continue
			}
			for i := u.first[p]; i < int(s.used[p]); i++ {
				x := s.slot[i]
				if s.holds(q, x) {
					continue
				}
				l := max((s.load[p]-s.size[x]+s.size[e])/u.speed[p], (s.load[q]+s.size[x])/u.speed[q])
				if bestFree < 0 || l < level {
					bestFree, bestGPU, bestSlot, level = q, p, i, l
				}
			}
		}
	}
	if bestFree < 0 {
		return false
	}
	x := s.slot[bestSlot]
	s.slot[bestSlot] = e
	s.load[bestGPU] += s.size[e] - s.size[x]
	s.has[bestGPU*s.words+int(x>>6)] &^= 1 << (x & 63)
	s.has[bestGPU*s.words+int(e>>6)] |= 1 << (e & 63)
	s.put(x, bestFree)
	return true
}

// lighter orders GPUs by load, then by index.
func lighter(a, b heapItem) bool {
	return a.key < b.key || (a.key == b.key && a.id < b.id)
}

// sinkLoad restores a heap of GPUs after its first entry grew.
func sinkLoad(h []heapItem) {
	i, x := 0, h[0]
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && lighter(h[c+1], h[c]) {
			c++
		}
		if !lighter(h[c], x) {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = x
}

// riseLoad restores a heap of GPUs after an entry was appended.
func riseLoad(h []heapItem) {
	i := len(h) - 1
	x := h[i]
	for i > 0 {
		p := (i - 1) / 2
		if !lighter(x, h[p]) {
			break
		}
		h[i] = h[p]
		i = p
	}
	h[i] = x
}
