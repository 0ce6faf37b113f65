package fresh

import "github.com/moelb/moelb/eplb/internal/search"

const (
	// annealSlots is the most slots of a layer that is annealed.
	annealSlots = 1 << 12
	// drawsAGap is how many changes are drawn first for what a plan is above its goal:
	// what is near its bound is not worth much more time.
	drawsAGap = 8e6
)

// anneal lowers s.best until it is within goal, as long as that pays. Without it
// 128 GPUs of 3 slots stand .1 to .5% higher, 96 of 3 .05%. Where no counts were searched
// by packing, steps that help come first, and twice the draws: without them 256 GPUs of 2
// slots stand .1 to .9% higher.
func (s *Anywhere) anneal(goal float64, stop func() bool) {
	draws := int(min(search.FirstDraws, (s.Best.Level-goal)*drawsAGap)) / s.thrift
	if s.Best.Level <= goal || s.U.Slots > annealSlots {
		return
	}
	s.at.Set(&s.task)
	s.at.Start(s.Best.Slot)
	if s.U.Slots > shiftSlots {
		draws *= 2
		s.improve(goal, stop)
	}
	s.cold.Lower(&s.at, draws, goal, stop)
	s.keepState(&s.at)
}

// keepState keeps what a search stands at if it is the best so far.
func (s *Anywhere) keepState(at *search.State) {
	if l := at.Time(); l < s.Best.Level {
		s.Best.Level = l
		copy(s.Best.Slot, at.Slots())
		copy(s.Best.Count, at.Counts())
	}
}
