package homes

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/exact"
	"github.com/moelb/moelb/eplb/internal/pack"
)

const (
	// exactHomeSlots is the most slots of a layer that is searched exhaustively
	// with groups on nodes.
	exactHomeSlots = 24
	// exactHomeWork ends that search: about a millisecond.
	exactHomeWork = 1 << 16
)

// exactly searches a small layer exhaustively, under every choice of homes, for
// what is better than the best plan. It returns the bound, raised to the best level
// if the search came to its end. Without it 4 GPUs of 4 slots stand .3 to 2% higher.
func (lo *Planner) exactly(bound float64, stop func() bool) float64 {
	s, h, x := lo.S, lo.homes, lo.exact
	if s.U.Slots > exactHomeSlots || s.Best.Level <= bound*(1+pack.ProvedTolerance) {
		return bound
	}
	x.May, x.Stop = lo.task.MostOff, stop
	x.Target, x.Work, x.Done = s.Best.Level*(1-exact.ExactMargin), exactHomeWork, true
	h.search(0, math.Max, func(int, bool) float64 { return 0 }, func(float64) (end bool) {
		if x.Work--; x.Work < 0 || stop() { // many homes are hopeless at once
			x.Done = false
			return true
		}
		lo.setHome(h.at)
		x.EverySet()
		return !x.Done
	})
	if h.visits > 0 && x.Done {
		return s.Best.Level
	}
	return bound
}
