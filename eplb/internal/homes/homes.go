package homes

import (
	"cmp"
	"math"
	"slices"
)

// homeVisits bounds the branches that a choice of homes looks at. 8 groups on
// 4 nodes have 105 leaves.
const homeVisits = 20000

// homes assigns the groups of a layer to nodes, as many to each, by branch and bound.
type homes struct {
	each  int       // groups a node
	power []float64 // speed of each node's GPUs in service, summed; what is dead serves little
	alike []int     // the first node that has the same GPUs

	load  []float64 // of each group
	order []int32   // groups by load, largest first

	// The branch at hand, and what was found.
	at     []int32 // node of each group; -1 = none yet
	used   []int
	sum    []float64
	ranked []int32 // [groups][nodes] nodes in the order to try
	visits int     // left of the branches to look at
	best   []int32
	found  bool

	limit float64 // no leaf above is wanted
	join  func(a, b float64) float64
	cost  func(node int, full bool) float64
	leaf  func(value float64) (end bool)
}

func newHomes(groups int, power []float64, alike []int) *homes {
	n := len(power)
	return &homes{
		each: groups / n, power: power, alike: alike,
		load: make([]float64, groups), order: make([]int32, groups), ranked: make([]int32, groups*n),
		at: make([]int32, groups), best: make([]int32, groups), used: make([]int, n), sum: make([]float64, n),
	}
}

// setLoads takes the loads of experts, each group's after the other's.
func (h *homes) setLoads(w []float64) {
	per := len(w) / len(h.load)
	clear(h.load)
	for e, x := range w {
		h.load[e/per] += x
	}
	for g := range h.order {
		h.order[g] = int32(g)
	}
	slices.SortStableFunc(h.order, func(a, b int32) int { return cmp.Compare(h.load[b], h.load[a]) })
}

// share is the level of a node that serves its load all by itself, and so much more.
func (h *homes) share(n int, more float64) float64 { return (h.sum[n] + more) / h.power[n] }

// least finds the assignment whose largest cost of a node is least, leaves it in h.best
// and returns its value, and whether that is proved to be the least. No value is below
// floor.
func (h *homes) least(floor float64, cost func(node int, full bool) float64) (value float64, exact bool) {
	h.search(math.Inf(1), math.Max, cost, func(v float64) bool {
		value, h.limit = v, v*(1-1e-12)
		return v <= floor
	})
	return value, h.visits > 0 || value <= floor
}

// search calls leaf with the value of every assignment, in h.at, of at most h.limit, until
// it says to end or the visits are used up and there was one, the last in h.best. The value
// joins what cost says of a node whenever it gets a group, which must not fall as it gets
// more; full says that it has all of its groups, those with h.at equal to the node.
func (h *homes) search(limit float64, join func(a, b float64) float64, cost func(node int, full bool) float64, leaf func(value float64) (end bool)) {
	h.limit, h.join, h.cost, h.leaf = limit, join, cost, leaf
	h.visits, h.found = homeVisits, false
	for g := range h.at {
		h.at[g] = -1
	}
	clear(h.used)
	clear(h.sum)
	h.branch(0, 0)
}

// branch places the groups from the i-th on, each first on the node that is emptiest
// after it. It returns true to end the search.
func (h *homes) branch(i int, value float64) bool {
	h.visits--
	if i == len(h.order) {
		h.found = true
		copy(h.best, h.at)
		return h.leaf(value) || h.visits <= 0
	}
	g, nodes := h.order[i], len(h.power)
	try := h.ranked[i*nodes : i*nodes]
	for n := range h.power {
		if h.used[n] < h.each && !(h.used[n] == 0 && h.twin(n)) {
			try = append(try, int32(n))
		}
	}
	slices.SortStableFunc(try, func(a, b int32) int {
		return cmp.Compare(h.share(int(a), h.load[g]), h.share(int(b), h.load[g]))
	})
	for _, n := range try {
		sum := h.sum[n]
		h.at[g] = n
		h.used[n]++
		h.sum[n] += h.load[g]
		v := h.join(value, h.cost(int(n), h.used[n] == h.each))
		end := h.visits <= 0 && h.found || (v <= h.limit || h.visits <= 0) && h.branch(i+1, v)
		h.at[g] = -1
		h.used[n]--
		h.sum[n] = sum
		if end {
			return true
		}
	}
	return false
}

// twin says whether an earlier node with the same GPUs is empty too.
func (h *homes) twin(n int) bool {
	for m := h.alike[n]; m < n; m++ {
		if h.used[m] == 0 && h.alike[m] == h.alike[n] {
			return true
		}
	}
	return false
}

// pigeonhole is a lower bound of the largest share of a node under any
// assignment: of the j·nodes+1 largest groups some node has j+1, and with them
// at best the smallest of all.
func (h *homes) pigeonhole() float64 {
	most := 0.0
	for j := range h.each {
		last, sum := j*len(h.power)+1, 0.0 // groups looked at
		for i, g := range h.order {
			if i >= last-j-1 && i < last || i >= len(h.order)-(h.each-j-1) {
				sum += h.load[g]
			}
		}
		most = max(most, sum)
	}
	return most / slices.Max(h.power)
}
