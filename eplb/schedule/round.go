package schedule

import "slices"

// unfinished says whether anything of these layers is left to do, and looks what
// is urgent.
func (s *scheduler) unfinished(order []int) bool {
	s.anyLost, s.anyLeaving = false, false
	more := false
	for _, l := range order {
		if s.left[l] == 0 {
			continue
		}
		more = true
		s.anyLost = s.anyLost || s.lostIn[l] > 0
		if s.someLeave && !s.anyLeaving {
			for i, e := range s.cur[l] {
				if e >= 0 && s.leaving[s.gpuOf[i]] {
					s.anyLeaving = true
					break
				}
			}
		}
	}
	return more
}

// round makes one round: first what is nowhere, then what is on leaving GPUs
// alone, in all layers; then the layers under way, then others.
func (s *scheduler) round(order []int) {
	s.startRound()
	s.urgentCopies(order, s.lostIn, 2)
	s.urgentCopies(order, s.onlyIn, 1)
	open := int32(0)
	for _, l := range order {
		if s.left[l] > 0 && s.under(l) {
			open++
		}
	}
	for _, under := range []bool{true, false} {
		tries := 0
		for _, l := range order {
			if s.left[l] == 0 || s.under(l) != under {
				continue
			}
			if !s.idleLinks() || tries > maxTries {
				break
			}
			switch {
			case under:
				s.serveLayer(l)
			case open < s.layers:
				s.serveLayer(l)
				if !s.finishes() {
					open++
				}
			case s.least[l] <= 1:
				tries++
				s.tryLayer(l)
			}
		}
	}
	for _, c := range s.loaded {
		s.change = c
		s.emit()
	}
	s.idle = append(s.idle, s.loaded...)
	s.loaded = s.loaded[:0]
	s.change = nil
}

// under says whether layer l is under way.
func (s *scheduler) under(l int) bool { return s.begun[l] || s.at(l) != nil }

// maxTries is how many layers are tried that a round must finish to start.
const maxTries = 128

// at is the layer's change in this round, nil where it has none.
func (s *scheduler) at(l int) *change {
	for _, c := range s.loaded {
		if c.layer == l {
			return c
		}
	}
	return nil
}

// turnTo makes l the layer at hand, where it stands in this round.
func (s *scheduler) turnTo(l int) {
	if s.change = s.at(l); s.change == nil {
		s.load(l)
		s.loaded = append(s.loaded, s.change)
	}
}

// urgentCopies serves what is as urgent as that, in the layers that have any.
func (s *scheduler) urgentCopies(order, in []int, urgency int) {
	for _, l := range order {
		if in[l] == 0 || s.left[l] == 0 {
			continue
		}
		if slices.Max(s.recvLeft) == 0 {
			return
		}
		s.turnTo(l)
		if s.watched() {
			s.chainWithin(urgency)
		} else {
			s.chainPass(urgency)
		}
	}
}

// serveLayer does for a layer what the links allow.
func (s *scheduler) serveLayer(l int) {
	s.turnTo(l)
	if s.watched() {
		s.serveWithin()
	} else {
		s.serve()
	}
}

func (s *scheduler) serve() {
	for range s.perGPU {
		if !s.matchPass() {
			break
		}
	}
	s.chainPass(0)
	s.nearer()
	s.localPass()
}

// finishes says whether the layer at hand is finished by this round.
func (s *scheduler) finishes() bool { return slices.Equal(s.plan, s.fin[s.layer]) }

// tryLayer serves a layer if the round can finish it.
func (s *scheduler) tryLayer(l int) {
	s.saved.set(&s.links)
	s.serveLayer(l)
	if s.finishes() {
		return
	}
	s.links.set(&s.saved)
	s.loaded = s.loaded[:len(s.loaded)-1]
	s.idle = append(s.idle, s.change)
	s.change = nil
}

// takeRound returns the round that ends.
func (s *scheduler) takeRound() Round {
	r := Round{Moves: slices.Clone(s.moves), Staged: append([]int(nil), s.staged...)}
	s.moves, s.staged = s.moves[:0], s.staged[:0]
	return r
}
