package schedule

import "slices"

// settle ends what a round does in the layer at hand: experts go to where they are to
// be within their GPU, what is superfluous goes, and the writes are put in order.
func (s *scheduler) settle() {
	for _, exchange := range [2]bool{false, true} { // one may only go once another has
		for slot := range s.plan {
			s.fill(slot, exchange)
		}
	}
	for slot, e := range s.fin {
		if x := s.plan[slot]; e < 0 && x >= 0 && (s.spare(slot) || s.touched(slot) && s.twin(slot)) {
			s.write(slot, -1, outsideRead)
		}
	}
	if s.InPlace {
		s.putInOrder()
		return
	}
	for slot := range s.plan {
		if s.touched(slot) {
			s.writes = append(s.writes, slot)
		}
	}
}

// fill has a slot hold its final expert, if that is on its GPU: where what the slot had
// may go, as any slot holds it at the round's start; else as one where it is not to stay
// holds it at the round's end, which may take what this one had in exchange. A slot that
// took part in an exchange is filled no more, so that those come last.
func (s *scheduler) fill(slot int, exchange bool) {
	e, g := s.fin[slot], s.gpuOf[slot]
	if e < 0 || e == s.plan[slot] {
		return
	}
	other, holder := -1, -1
	for i := s.first[g]; i < s.first[g+1]; i++ {
		if s.plan[i] == e && s.fin[i] != e {
			other = i
		}
		if s.cur[i] == e {
			holder = i
		}
	}
	x, from, spare := s.plan[slot], s.src[slot], s.spare(slot)
	if spare && holder >= 0 {
		if s.write(slot, e, holder); s.full(g, 0) {
			s.write(slot, x, from)
		}
		return
	}
	if !exchange || other < 0 || !spare && !s.touched(slot) && !s.kept(slot) {
		return
	}
	at := s.src[other]
	s.write(slot, e, at)
	if spare {
		s.write(other, s.cur[other], other)
	} else {
		s.write(other, x, from)
	}
	if s.full(g, 0) {
		s.write(slot, x, from)
		s.write(other, e, at)
	}
}

// spare says whether what a slot held may go, and nobody asks for it any more.
func (s *scheduler) spare(slot int) bool {
	x := s.plan[slot]
	return s.free(slot) && (x < 0 || !slices.ContainsFunc(s.reqBy[x], func(r int) bool { return !s.req[r].done }))
}

// putInOrder lists the writes of a round in place: straight into its slot, a copy must
// run after those that read that slot, and these after the readers of theirs. Every
// slot is written once, so what is left when nobody waits any more are cycles, of which
// one copy is staged: read first, written last. A cycle whose GPU has no room for it is
// taken back: what it moves stays where it is.
func (s *scheduler) putInOrder() {
	clear(s.readers)
	for i, from := range s.src {
		if from >= 0 && from != i {
			s.readers[from]++
		}
	}
	run := func(i int) {
		for i >= 0 && s.touched(i) && s.readers[i] == 0 {
			s.writes = append(s.writes, i)
			s.readers[i] = -1
			if i = s.src[i]; i >= 0 {
				s.readers[i]--
			}
		}
	}
	for i := range s.src {
		run(i)
	}
	for i := range s.src {
		if !s.touched(i) || s.readers[i] < 0 {
			continue
		}
		if g := s.gpuOf[i]; s.staged[g] < s.stage {
			s.staged[g]++
			s.stagers = append(s.stagers, i)
			s.readers[s.src[i]]--
			run(s.src[i])
			continue
		}
		for s.touched(i) {
			next := s.src[i]
			s.write(i, s.cur[i], i)
			i = next
		}
	}
}
