package schedule

import "slices"

// In place, a copy is written straight into its slot, so it must run after the
// copies that read that slot. Every slot is written once a round, so a copy waits
// for the readers of its slot, and these wait for the readers of theirs: chains,
// and cycles. Of each cycle one copy is staged: read first, written last.

// stages says which slot must be staged for a copy into a slot, -1 = none, and
// whether there is room: itself, or in place one of the cycle that it closes, on
// the GPU with the least to stage.
func (s *scheduler) stages(slot, expert, from int) (stager int, ok bool) {
	if expert < 0 || s.InPlace && from < 0 {
		return -1, true
	}
	stager = slot
	if s.InPlace {
		i := from
		for ; i != slot; i = s.src[i] {
			if s.src[i] < 0 || slices.Contains(s.stagers, i) {
				return -1, true // read before, or by none
			}
			if s.staged[s.gpuOf[stager]] >= s.stage {
				stager = i
			}
		}
	}
	return stager, s.staged[s.gpuOf[stager]] < s.stage
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
