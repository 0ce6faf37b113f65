package homes

import (
	"github.com/moelb/moelb/eplb/internal/assign"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// Away is the home of each group in a layer's placement, those homes that leave
// the fewest replicas away, how many that are and the share of load they serve.
// Experts in no group are at home everywhere.
func Away(p *problem.Problem, l int, row []int) (at []int, replicas int, share float64) {
	of, count, total := p.GroupOf(), make([]float64, p.Experts()), 0.0
	var node, expert []int // of each replica of an expert in a group
	from := 0
	for g, n := range placement.EvenSlots(len(row), p.Topology.GPUs) {
		for _, e := range row[from : from+n] {
			if e >= 0 && of[e] >= 0 {
				node, expert = append(node, p.Topology.Node(g)), append(expert, e)
				count[e]++
			}
		}
		from += n
	}
	home := Least(p.Groups, p.Topology.Nodes, func(do func(node, group int)) {
		for i, e := range expert {
			do(node[i], of[e])
		}
	})
	for _, n := range home {
		at = append(at, int(n))
	}
	for i, e := range expert {
		if at[of[e]] != node[i] {
			replicas++
			share += p.Loads[l][e] / count[e]
		}
	}
	for _, x := range p.Loads[l] {
		total += x
	}
	if total > 0 {
		share /= total
	}
	return at, replicas, share
}

// Least is the node of each group, as many groups on each, that leaves the fewest of
// the replicas that each tells of elsewhere.
func Least(groups, nodes int, each func(do func(node, group int))) []int32 {
	rooms := groups / nodes
	cost := make([]int32, groups*groups) // a node stands for as many columns as it has groups
	each(func(node, group int) {
		for i := range rooms {
			cost[group*groups+node*rooms+i]--
		}
	})
	at := make([]int32, groups)
	for g, c := range assign.Least(cost, groups) {
		at[g] = int32(c / rooms)
	}
	return at
}
