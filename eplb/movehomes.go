package eplb

import (
	"github.com/moelb/moelb/placement"
)

// setHomes gives every group the node where most of its replicas are, as many
// groups to each, where groups must stay together.
func (m *mover) setHomes(slot []int32) {
	p, t := m.p, &m.task
	t.Home = nil
	if m.o.Locality != ByGroup {
		return
	}
	groups, nodes := p.Groups, p.Topology.NodeCount()
	per := p.Loads.Experts() / groups
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
	t.Node, t.MostOff = m.u.node, m.o.OffNodeReplicas
}

// count fills in what of a layer's placement is off its home, for the homes that
// leave the fewest replicas away.
func (to *LocalityPrice) count(p *Problem, l int, row []int) {
	groups, nodes := p.Groups, p.Topology.Nodes
	per := p.Loads.Experts() / groups
	q := placement.Placement{Experts: p.Loads.Experts(), GPUs: p.Topology.GPUs, PhysicalToLogical: [][]int{row}}
	if len(row)%q.GPUs != 0 {
		q.GPUSlots = placement.EvenSlots(len(row), q.GPUs)
	}
	first := q.FirstSlots()
	n := q.LogicalCount()[0]
	cost := make([]int32, groups*groups)
	each := func(do func(node, e int)) {
		for g := range q.GPUs {
			for _, e := range row[first[g]:first[g+1]] {
				if e >= 0 {
					do(p.Topology.Node(g), e)
				}
			}
		}
	}
	each(func(node, e int) {
		for i := range groups / nodes {
			cost[e/per*groups+node*(groups/nodes)+i]--
		}
	})
	for g, c := range assign(cost, groups) {
		to.Home[l][g] = c / (groups / nodes)
	}
	total, away := 0.0, 0.0
	to.OffNodeReplicas[l] = 0
	each(func(node, e int) {
		x := p.Loads[l][e] / float64(n[e])
		total += x
		if to.Home[l][e/per] != node {
			to.OffNodeReplicas[l]++
			away += x
		}
	})
	to.OffNodeShare[l] = 0
	if total > 0 {
		to.OffNodeShare[l] = away / total
	}
}
