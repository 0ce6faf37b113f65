package schedule

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
