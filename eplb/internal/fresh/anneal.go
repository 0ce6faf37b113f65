package fresh

import "github.com/moelb/moelb/eplb/internal/search"

const (
	// annealSlots is the most slots of a layer that is annealed.
	annealSlots = 1 << 12
	// drawsAGap is how many changes are drawn for what a plan is above its goal, up
	// to firstDraws: what is near its bound is not worth much more time.
	drawsAGap  = 8e6
	firstDraws = 1 << 12
	// goOn is the gain that makes another round, of twice as many, worth its time, up
	// to lastDraws.
	goOn      = 2e-5
	lastDraws = 1 << 14
)

// anneal lowers s.best until it is within goal, as long as that pays. Without it
// 128 GPUs of 3 slots stand .1 to .5% higher, 96 of 3 .05%.
func (s *Anywhere) anneal(goal float64, stop func() bool) {
	for draws := min(firstDraws, int((s.Best.Level-goal)*drawsAGap)) / s.thrift; draws <= lastDraws; draws *= 2 {
		was := s.Best.Level
		if was <= goal || s.U.Slots > annealSlots || stop() {
			return
		}
		s.at.Set(&s.task)
		s.at.Start(s.Best.Slot)
		s.cold.Anneal(&s.at, draws, goal, stop)
		if s.keepState(&s.at); was-s.Best.Level < goOn {
			return
		}
	}
}

// keepState keeps what a search stands at if it is the best so far.
func (s *Anywhere) keepState(at *search.State) {
	if l := at.Time(); l < s.Best.Level {
		s.Best.Level = l
		copy(s.Best.Slot, at.Slots())
		copy(s.Best.Count, at.Counts())
	}
}
