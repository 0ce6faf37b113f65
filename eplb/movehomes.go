package eplb

// setHomes gives every group the node where most of its replicas are, as many
// groups to each, where groups must stay together.
func (m *mover) setHomes(slot []int32) {
	p, t := m.p, &m.task
	t.Home = nil
	if !p.byGroup {
		return
	}
	groups, nodes := p.groups, p.topology.NodeCount()
	per := p.experts() / groups
	cost := make([]int32, groups*groups) // a node stands for as many columns as it has groups
	for g := range m.u.gpu {
		for _, e := range slot[m.u.first[g]:m.u.first[g+1]] {
			if e >= 0 {
				for i := range groups / nodes {
					cost[int(e)/per*groups+m.u.node[g]*(groups/nodes)+i]--
				}
			}
		}
	}
	t.Home = make([]int32, t.Experts)
	home := assign(cost, groups)
	for e := range t.Home {
		t.Home[e] = int32(home[e/per] / (groups / nodes))
	}
	t.Node, t.MostOff = m.u.node, p.off
}
