package moves

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
	"github.com/moelb/moelb/eplb/internal/traffic"
)

// fewer looks for a placement within the goal that takes fewer moves than g, least
// at least, from first on: where GPUs came or went, what comes to their slots is
// free to choose, and a path looks no further than its next step.
func (m *Mover) fewer(out *search.Front, first []int32, g search.Point, least int, goal search.Goal) search.Point {
	t := &m.Task
	n := len(t.Share)
	y := &traffic.Layer{Weight: t.Share, Was: t.Prev, Apart: t.Domain, Home: t.Home, Off: t.MostOff}
	for k := range n {
		row := make([]float64, t.Experts)
		for e := range row {
			row[e] = t.Load[e*n+k]
		}
		y.Loads = append(y.Loads, row)
	}
	slot := slices.Clone(first)
	on := traffic.NewUnit(m.U.First, m.U.Node, m.U.Speed, m.P.Topology.NodeCount())
	traffic.Fewer(on, y, slot, goal.Time, least, g.Moves, goal.Stop)
	m.walk(out, slot, goal, 0)
	if better, ok := out.Within(goal.Time); ok {
		return better
	}
	return g
}
