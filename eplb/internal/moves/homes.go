package moves

import (
	"github.com/moelb/moelb/eplb/internal/assign"
)

// setHomes gives every group the node where most of its replicas are, as many
// groups to each, where groups must stay together.
func (m *Mover) setHomes(slot []int32) {
	p, t := m.P, &m.Task
	t.Home = nil
	if !p.ByGroup {
		return
	}
	groups, nodes := p.Groups, p.Topology.NodeCount()
	per := p.Experts() / groups
	cost := make([]int32, groups*groups) // a node stands for as many columns as it has groups
	for g := range m.U.Gpu {
		for _, e := range slot[m.U.First[g]:m.U.First[g+1]] {
			if e >= 0 {
				for i := range groups / nodes {
					cost[int(e)/per*groups+m.U.Node[g]*(groups/nodes)+i]--
				}
			}
		}
	}
	t.Home = make([]int32, t.Experts)
	home := assign.Least(cost, groups)
	for e := range t.Home {
		t.Home[e] = int32(home[e/per] / (groups / nodes))
	}
	t.Node, t.MostOff = m.U.Node, p.Off
}
