package schedule

import "slices"

// In place, a copy is written straight into its slot, so it must run after the
// copies that read that slot. Every slot is written once a round, so a copy waits
// for the readers of its slot, and these wait for the readers of theirs: chains,
// and cycles. Of each cycle one copy is staged: read first, written last.

// stageCycles stages a slot of each cycle, the last to be reached. A cycle whose GPU has
// no room is taken back: what it moves stays where it is.
func (s *scheduler) stageCycles() {
	clear(s.seen) // the first slot, from 1, from which a walk came by each
	for i := range s.src {
		j := i
		for ; j >= 0 && s.touched(j) && s.seen[j] == 0; j = s.src[j] {
			s.seen[j] = i + 1
		}
		if j < 0 || !s.touched(j) || s.seen[j] != i+1 {
			continue // it ends, or where a walk has been
		}
		if g := s.gpuOf[j]; s.staged[g] < s.stage {
			s.staged[g]++
			s.stagers = append(s.stagers, j)
			continue
		}
		for s.touched(j) {
			next := s.src[j]
			s.write(j, s.cur[j], j)
			j = next
		}
	}
}

// putInOrder sorts the moves of the layer at hand, those from start on, so that each
// slot is read before it is written, and notes which are staged.
func (s *scheduler) putInOrder(start int) {
	moves := slices.Clone(s.moves[start:])
	s.keys = s.keys[:0]
	for _, m := range moves {
		s.keys = append(s.keys, m.From)
	}
	readers, done := newBuckets(len(s.gpuOf)), make([]bool, len(moves))
	readers.fill(s.keys)
	s.moves = s.moves[:start]
	var run func(i int)
	run = func(i int) {
		if done[i] {
			return
		}
		done[i] = true
		if m := moves[i]; slices.Contains(s.stagers, m.To) {
			s.stagedMoves = append(s.stagedMoves, len(s.moves))
		} else {
			for _, k := range readers.of(m.To) {
				run(k)
			}
		}
		s.moves = append(s.moves, moves[i])
	}
	for i := range moves {
		run(i)
	}
}
