package homes

import (
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
	s := lo.S
	if s.U.Slots > exactHomeSlots || s.Best.Level <= bound*(1+pack.ProvedTolerance) {
		return bound
	}
	x := lo.exact
	x.Home, x.Nodes, x.Stop = lo.homeAt, len(lo.nodes), stop
	x.Spare, x.Empty = x.Spare[:0], 0
	for _, d := range lo.nodes {
		x.Spare = append(x.Spare, d.spare)
		x.Empty += d.spare * (d.hi - d.lo)
	}
	clear(lo.homes.used)
	// Where not all can be searched, fewer replicas off their nodes are searched
	// too, as leaveHomes does.
	for x.May = lo.off; ; x.May = below(x.May) {
		x.Target, x.Work, x.Done = s.Best.Level*(1-exact.ExactMargin), exactHomeWork, true
		lo.everyHome(0)
		if x.Done && x.May == lo.off {
			bound = s.Best.Level
		}
		if x.Done || x.May == 0 || stop() {
			break
		}
	}
	lo.setHome(lo.bestHome)
	return bound
}

// everyHome tries every home of the groups from g on.
func (lo *Planner) everyHome(g int) {
	h, x := lo.homes, lo.exact
	if x.Work--; x.Work < 0 || x.Stop() { // many homes are hopeless at once
		x.Done = false
		return
	}
	if g == h.groups {
		lo.setHome(lo.Home)
		was := lo.S.Best.Level
		if x.EverySet(); lo.S.Best.Level < was {
			copy(lo.bestHome, lo.Home)
		}
		return
	}
	for n := range lo.nodes {
		if h.used[n] == h.each || h.used[n] == 0 && h.twin(n) || !x.Done {
			continue
		}
		h.used[n]++
		lo.Home[g] = int32(n)
		lo.everyHome(g + 1)
		h.used[n]--
	}
}
