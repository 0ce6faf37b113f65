package schedule

import "slices"

// maxVain is how many layers a round tries in vain to finish once it may begin no more.
const maxVain = 128

// round makes one round: first what is nowhere, then what is on leaving GPUs
// alone, in all layers; then the layers under way; then others, until as many as may
// be are half-moved, and after that those that the round finishes. Without the latter
// schedules that leave one layer half-moved take 1% more rounds.
func (s *scheduler) round(order []*layer) {
	s.links = newLinks(len(s.node))
	for urgency := 2; urgency > 0; urgency-- {
		for _, y := range order {
			if y.urgency > 0 {
				s.layer, y.doing = y, true
				s.serveRequests(urgency)
			}
		}
	}
	open, vain := 0, 0
	for _, underWay := range [2]bool{true, false} {
		for _, y := range order {
			switch {
			case y.ended || underWay != (y.begun || y.doing):
			case underWay:
				s.serve(y)
				open++
			case open == s.most && (y.busiest > s.PerGPU || vain == maxVain) || !s.idle():
			case s.serve(y):
			case open < s.most:
				open++
			default:
				s.drop()
				vain++
			}
		}
	}
	for _, y := range order {
		if y.doing {
			s.layer = y
			s.emit()
		}
	}
}

// serve does for a layer what the links allow, and says whether that finishes it.
func (s *scheduler) serve(y *layer) bool {
	s.layer, y.doing = y, true
	if s.idle() {
		for range s.PerGPU {
			if !s.matchPass() {
				break
			}
		}
		s.serveRequests(0)
	}
	s.settle()
	return slices.Equal(s.plan, s.fin)
}
