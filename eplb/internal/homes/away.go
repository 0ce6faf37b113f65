package homes

import (
	"github.com/moelb/moelb/eplb/internal/assign"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// Away is the home of each group in a layer's placement, those homes that leave
// the fewest replicas away, how many that are and the share of load they serve.
func Away(p *problem.Problem, l int, row []int) (at []int, replicas int, share float64) {
	groups, nodes := p.Groups, p.Topology.Nodes
	per := p.Experts() / groups
	q := placement.Placement{Experts: p.Experts(), GPUs: p.Topology.GPUs, PhysicalToLogical: [][]int{row}}
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
	at = assign.Least(cost, groups)
	for g, c := range at {
		at[g] = c / (groups / nodes)
	}
	total, off := 0.0, 0.0
	each(func(node, e int) {
		x := p.Loads[l][e] / float64(n[e])
		total += x
		if at[e/per] != node {
			replicas++
			off += x
		}
	})
	if total > 0 {
		share = off / total
	}
	return at, replicas, share
}
