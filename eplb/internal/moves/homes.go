package moves

import "github.com/moelb/moelb/eplb/internal/homes"

// setHomes gives every group the node where most of its replicas are, as many
// groups to each, where groups must stay together.
func (m *Mover) setHomes(slot []int32) {
	p := m.P
	if !p.ByGroup {
		return
	}
	per := p.Experts() / p.Groups
	home := homes.Least(p.Groups, p.Topology.NodeCount(), func(do func(node, group int)) {
		for g, node := range m.U.Node {
			for _, e := range slot[m.U.First[g]:m.U.First[g+1]] {
				if e >= 0 {
					do(node, int(e)/per)
				}
			}
		}
	})
	m.SetHome(home, p.Off)
}
