package homes

import (
	"github.com/moelb/moelb/eplb/internal/assign"
	"github.com/moelb/moelb/eplb/internal/problem"
)

// Of is the node of each group, as many groups on each, that leaves the fewest replicas
// of a layer elsewhere. Experts in no group are at home everywhere.
func Of(p *problem.Problem, slot []int32) []int32 {
	of, rooms := p.GroupOf(), p.Groups/p.Topology.Nodes
	cost := make([]int32, p.Groups*p.Groups) // a node stands for as many columns as it has groups
	for g, node := range p.Unit.Node {
		for _, e := range slot[p.Unit.First[g]:p.Unit.First[g+1]] {
			if e >= 0 && of[e] >= 0 {
				for i := range rooms {
					cost[of[e]*p.Groups+node*rooms+i]--
				}
			}
		}
	}
	at := make([]int32, p.Groups)
	for g, c := range assign.Least(cost, p.Groups) {
		at[g] = int32(c / rooms)
	}
	return at
}

// Away is the home of each group in a layer's placement, those homes that leave
// the fewest replicas away, how many that are and the share of load they serve.
func Away(p *problem.Problem, l int, slot []int32) (at []int, replicas int, share float64) {
	of, count := p.GroupOf(), make([]float64, p.Experts())
	for _, n := range Of(p, slot) {
		at = append(at, int(n))
	}
	for _, e := range slot {
		if e >= 0 {
			count[e]++
		}
	}
	for g, node := range p.Unit.Node {
		for _, e := range slot[p.Unit.First[g]:p.Unit.First[g+1]] {
			if e >= 0 && of[e] >= 0 && at[of[e]] != node {
				replicas++
				share += p.Loads[l][e] / count[e]
			}
		}
	}
	if total := problem.Sum(p.Loads[l]); total > 0 {
		share /= total
	}
	return at, replicas, share
}
