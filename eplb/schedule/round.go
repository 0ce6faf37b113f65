package schedule

import "slices"

// maxVain is how many layers a round tries in vain to finish once it may begin no more.
const maxVain = 128

// round makes one round: first what is nowhere, then what is on leaving GPUs
// alone, in all layers; then the layers under way, then others.
func (s *scheduler) round(order []int) {
	s.links.reset()
	for urgency := 2; urgency > 0; urgency-- {
		for _, l := range order {
			if s.urgent[l] {
				s.turnTo(l)
				s.serveRequests(urgency)
			}
		}
	}
	open := int32(0)
	for _, l := range order {
		if s.underWay(l) {
			open++
		}
	}
	for _, l := range order {
		if s.underWay(l) && s.idle() {
			s.serve(l)
		}
	}
	s.begin(order, open)
	for _, l := range order {
		if s.parts[l] != nil {
			s.turnTo(l)
			s.emit()
		}
	}
}

// begin serves layers that are not under way, where so many are: until as many as may
// be are half-moved, then those that the round finishes.
func (s *scheduler) begin(order []int, open int32) {
	vain := 0
	for _, l := range order {
		if s.left[l] == 0 || s.underWay(l) || open == s.layers && (s.least[l] > 1 || vain == maxVain) || !s.idle() {
			continue
		}
		switch s.serve(l); {
		case slices.Equal(s.plan, s.fin[l]):
		case open < s.layers:
			open++
		default:
			s.undo(0)
			vain++
		}
	}
}

// underWay says whether layer l is half-moved, or has a part in the round.
func (s *scheduler) underWay(l int) bool { return s.left[l] > 0 && s.begun[l] || s.parts[l] != nil }

// serve does for a layer what the links allow.
func (s *scheduler) serve(l int) {
	s.turnTo(l)
	for range s.perGPU {
		if !s.matchPass() {
			break
		}
	}
	s.serveRequests(0)
	s.settleAll()
}
