package schedule

import "slices"

// maxVain is how many layers a round tries in vain to finish once it may begin no more.
const maxVain = 128

// round makes one round: first what is nowhere, then what is on leaving GPUs
// alone, in all layers; then the layers under way, then others.
func (s *scheduler) round(order []*layer) {
	s.links.reset()
	for urgency := 2; urgency > 0; urgency-- {
		for _, y := range order {
			if y.urgent {
				s.turnTo(y)
				s.serveRequests(urgency)
			}
		}
	}
	open := 0
	for _, y := range order {
		if y.underWay() {
			open++
		}
	}
	for _, y := range order {
		if y.underWay() && s.idle() {
			s.serve(y)
		}
	}
	s.begin(order, open)
	for _, y := range order {
		if y.doing {
			s.turnTo(y)
			s.emit()
		}
	}
}

// begin serves layers that are not under way, where so many are: until as many as may
// be are half-moved, then those that the round finishes. Without the latter schedules
// that leave one layer half-moved take 1% more rounds.
func (s *scheduler) begin(order []*layer, open int) {
	vain := 0
	for _, y := range order {
		if y.left == 0 || y.underWay() || open == s.most && (y.least > 1 || vain == maxVain) || !s.idle() {
			continue
		}
		switch s.serve(y); {
		case slices.Equal(s.plan, y.fin):
		case open < s.most:
			open++
		default:
			s.drop()
			vain++
		}
	}
}

// underWay says whether a layer is half-moved, or has a part in the round.
func (y *layer) underWay() bool { return y.left > 0 && y.begun || y.doing }

// serve does for a layer what the links allow.
func (s *scheduler) serve(y *layer) {
	s.turnTo(y)
	for range s.PerGPU {
		if !s.matchPass() {
			break
		}
	}
	s.serveRequests(0)
	s.settleAll()
}
