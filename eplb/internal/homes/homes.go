package homes

import (
	"cmp"
	"math"
	"slices"
)

const (
	// memoGroups is up to how many groups the cost of every set of groups is
	// remembered.
	memoGroups = 12
	// homeVisits bounds the branches that a choice of homes looks at. 8 groups on
	// 4 nodes have 105 leaves.
	homeVisits = 20000
)

// homes assigns the groups of a layer to nodes, as many to each.
type homes struct {
	groups, each int
	power        []float64 // speed of each node's GPUs in service, summed; what is dead serves little
	alike        []int     // the first node that has the same GPUs

	load  []float64 // of each group
	order []int32   // groups by load, largest first

	// The branch at hand and the best leaf.
	at     []int32 // node of each group; -1 = none yet
	used   []int
	sum    []float64
	mask   []uint32
	best   []int32
	found  bool
	value  float64 // no leaf above is wanted
	enough float64 // ends the search
	visits int     // left of the branches to look at
	ranked []int32 // [groups][nodes] nodes in the order to try

	add  bool // values are sums, not maxima, of costs
	cost func(node int, mask uint32) float64
	leaf func() (end bool) // looks at all of them, where none is chosen
}

func newHomes(groups int, power []float64, alike []int) *homes {
	n := len(power)
	return &homes{
		groups: groups, each: groups / n, power: power, alike: alike,
		load: make([]float64, groups), order: make([]int32, groups), ranked: make([]int32, groups*n),
		at: make([]int32, groups), best: make([]int32, groups), used: make([]int, n), sum: make([]float64, n), mask: make([]uint32, n),
	}
}

// setLoads takes the loads of experts, each group's after the other's.
func (h *homes) setLoads(w []float64) {
	per := len(w) / h.groups
	for g := range h.load {
		sum := 0.0
		for _, x := range w[g*per : (g+1)*per] {
			sum += x
		}
		h.load[g] = sum
		h.order[g] = int32(g)
	}
	slices.SortStableFunc(h.order, func(a, b int32) int { return cmp.Compare(h.load[b], h.load[a]) })
}

// share is the level of a node that serves its load all by itself, and so much more.
func (h *homes) share(n int, more float64) float64 { return (h.sum[n] + more) / h.power[n] }

// least finds the assignment whose largest cost of a node is least, by branch
// and bound, leaves it in h.best and returns its value, and whether that is
// proved to be the least. cost is asked for a node's complete set of groups,
// those with h.at equal to the node; mask is their bits. It is at least the
// node's share of the load. No value is below floor.
func (h *homes) least(floor float64, cost func(node int, mask uint32) float64) (value float64, exact bool) {
	h.add, h.cost, h.enough, h.value = false, cost, floor, math.Inf(1)
	h.start()
	return h.value, h.visits > 0 || h.value <= floor
}

// within looks for an assignment whose costs add up to at most limit and leaves
// it in h.best. It returns false only if there is none.
func (h *homes) within(limit float64, cost func(node int, mask uint32) float64) bool {
	h.add, h.cost, h.enough, h.value = true, cost, limit, limit
	h.start()
	return h.found
}

// every calls do with every assignment, which is in h.at, until it says to end or the
// visits are used up, and says whether that was all.
func (h *homes) every(do func() (end bool)) bool {
	h.add, h.value, h.cost = true, 0, func(int, uint32) float64 { return 0 }
	h.leaf = do
	h.start()
	h.leaf = nil
	return h.visits > 0
}

// start searches from the root.
func (h *homes) start() {
	h.visits, h.found = homeVisits, false
	for g := range h.at {
		h.at[g] = -1
	}
	clear(h.used)
	clear(h.sum)
	clear(h.mask)
	h.branch(0, 0)
}

// branch places the groups from the i-th on. It returns true to end the search: with
// the first leaf that is good enough or, once the visits are used up, with any.
func (h *homes) branch(i int, value float64) bool {
	h.visits--
	if i == h.groups && h.leaf != nil {
		return h.leaf() || h.visits <= 0
	}
	if i == h.groups {
		if !h.found || value < h.value*(1-1e-12) {
			h.found, h.value = true, value
			copy(h.best, h.at)
		}
		return value <= h.enough || h.visits <= 0
	}
	g := h.order[i]
	nodes := len(h.power)
	try := h.ranked[i*nodes : i*nodes]
	// The node that is emptiest after it first.
	for n := range h.power {
		if h.used[n] == h.each || h.used[n] == 0 && h.twin(n) {
			continue
		}
		try = append(try, int32(n))
		for j := len(try) - 1; j > 0 && h.share(int(try[j]), h.load[g]) < h.share(int(try[j-1]), h.load[g]); j-- {
			try[j], try[j-1] = try[j-1], try[j]
		}
	}
	for _, t := range try {
		n, sum := int(t), h.sum[t]
		h.at[g] = t
		h.used[n]++
		h.sum[n] += h.load[g]
		h.mask[n] |= 1 << (uint(g) & 31)
		v := value
		if !h.add {
			v = max(v, h.share(n, 0))
		}
		if h.used[n] == h.each {
			if c := h.cost(n, h.mask[n]); h.add {
				v += c
			} else {
				v = max(v, c)
			}
		}
		end := h.visits <= 0 && h.found || (v <= h.value || h.visits <= 0) && h.branch(i+1, v)
		h.at[g] = -1
		h.used[n]--
		h.sum[n] = sum
		h.mask[n] &^= 1 << (uint(g) & 31)
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
			if i >= last-j-1 && i < last || i >= h.groups-(h.each-j-1) {
				sum += h.load[g]
			}
		}
		most = max(most, sum)
	}
	return most / slices.Max(h.power)
}
