package schedule

// settleAll puts what GPUs have already, in another slot, where it is to be.
func (s *scheduler) settleAll() {
	for slot := range s.plan {
		s.settle(slot)
	}
}

// settle has a slot hold its final expert, or nothing, by copies within its GPU, or
// because the expert arrives in another slot there.
func (s *scheduler) settle(slot int) {
	e := s.fin[slot]
	if e == s.plan[slot] {
		return
	}
	mark, from, r := len(s.trail), -1, -1
	if e >= 0 {
		if from = s.holder(slot, e); from < 0 {
			return
		}
		if s.cur[from] != e {
			w, ok := s.recall(from)
			if !ok {
				return
			}
			from, r = w.from, w.request
		}
	}
	if !s.place(slot, from, r) {
		s.undo(mark)
	}
}

// holder is a slot on the same GPU that holds an expert at the round's start, else
// one in which it arrives without being meant to stay; -1 = none.
func (s *scheduler) holder(slot, e int) int {
	g, arrives := s.gpuOf[slot], -1
	for i := s.first[g]; i < s.first[g+1]; i++ {
		if s.cur[i] == e {
			return i
		}
		if s.plan[i] == e && s.fin[i] != e {
			arrives = i
		}
	}
	return arrives
}

// place has a slot hold its final expert, read from another, and finds a place for
// what the GPU would lose by that: what the slot held, and what was to arrive there.
// Two slots may exchange what they held where not all that goes around at once can be
// staged.
func (s *scheduler) place(slot, from, r int) bool {
	e, g := s.fin[slot], s.gpuOf[slot]
	arrives := written{expert: -1}
	if s.src[slot] != untouched {
		ok := s.plan[slot] != e
		if ok {
			arrives, ok = s.recall(slot)
		}
		if !ok {
			return false
		}
	}
	x := s.plan[slot]
	if !s.put(slot, e, from, r) {
		return false
	}
	if x >= 0 && !s.keeps(slot, x) {
		// The slot that is read may take it.
		if s.stage == noLimit || !s.kept[slot] || r >= 0 || from < 0 || s.src[from] != untouched || s.fin[from] == e || !s.put(from, x, slot, -1) {
			return false
		}
	}
	return arrives.expert < 0 || s.home(g, arrives.expert, arrives.from, arrives.request)
}

// keeps says whether an expert that a slot held may go: another has it, or finds a
// place on the same GPU if that is to have it.
func (s *scheduler) keeps(slot, x int) bool {
	if !s.kept[slot] {
		return s.live[x] > 0 && !s.asked(x)
	}
	return s.twin(slot, x) || s.home(s.gpuOf[slot], x, slot, -1)
}

// home finds a slot of GPU g in which an expert is to stay.
func (s *scheduler) home(g, e, from, r int) bool {
	mark := len(s.trail)
	for i := s.first[g]; i < s.first[g+1]; i++ {
		if s.fin[i] == e && s.plan[i] != e {
			if s.place(i, from, r) {
				return true
			}
			s.undo(mark)
		}
	}
	return false
}

// asked says whether a GPU still lacks an expert.
func (s *scheduler) asked(e int) bool {
	for _, r := range s.reqBy.of(e) {
		if !s.req[r].done {
			return true
		}
	}
	return false
}
