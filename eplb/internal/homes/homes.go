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
	// branchGroups is up to how many groups homes are searched for from which few
	// replicas must leave; of more, groups are dealt out.
	branchGroups = 64
	// homeVisits bounds the branches that a choice of homes looks at. 8 groups on
	// 4 nodes have 105 leaves.
	homeVisits = 20000
)

// homes assigns the groups of a layer to nodes, as many to each.
type homes struct {
	groups, each int
	power        []float64 // speed of each node's GPUs in service, summed
	most         float64   // the largest power
	alike        []int     // the first node that has the same GPUs

	load  []float64 // of each group
	order []int32   // groups by load, largest first

	// The branch at hand and the best leaf.
	at     []int32 // node of each group; -1 = none yet
	used   []int
	sum    []float64
	mask   []uint32
	best   []int32
	value  float64
	second float64 // breaks ties of value
	visits int     // left of the branches to look at
	ranked []int32 // [groups][nodes] nodes in the order to try
	floor  float64 // no assignment has a smaller value

	add  bool
	cost func(node int, mask uint32) float64
}

func newHomes(groups int, power []float64, alike []int) *homes {
	n := len(power)
	return &homes{
		groups: groups, each: groups / n, power: power, most: slices.Max(power), alike: alike,
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

// share is the level of a node that serves load all by itself.
func (h *homes) share(n int, load float64) float64 {
	if h.power[n] == 0 {
		return float64(load * 1e9) // all of it must go elsewhere: rather little
	}
	return load / h.power[n]
}

// least finds the assignment whose largest cost of a node is least, by branch
// and bound, leaves it in h.best and returns its value, and whether that is
// proved to be the least. cost is asked for a node's complete set of groups,
// those with h.at equal to the node; mask is their bits. It is at least the
// node's share of the load. Of equals the one with the least sum of squared
// shares is taken, as far as that is searched. No value is below floor.
func (h *homes) least(floor float64, cost func(node int, mask uint32) float64) (value float64, exact bool) {
	h.add, h.cost, h.floor = false, cost, floor
	h.value, h.second = math.Inf(1), math.Inf(1)
	h.start()
	return h.value, h.visits > 0 || h.value <= floor
}

// within looks for an assignment whose costs add up to at most limit and leaves
// it in h.best. It returns false only if there is none. Of more than branchGroups
// groups it deals them out: even nodes in loads of every size lose fewest replicas, and
// within the visits a search finds none.
func (h *homes) within(limit float64, cost func(node int, mask uint32) float64) bool {
	h.add, h.cost, h.floor = true, cost, limit
	h.value, h.second = limit, math.Inf(1)
	if h.groups > branchGroups {
		h.deal()
		return true
	}
	return h.start() || h.visits <= 0
}

// start searches from the root.
func (h *homes) start() bool {
	h.visits = homeVisits
	for g := range h.at {
		h.at[g] = -1
	}
	clear(h.used)
	clear(h.sum)
	clear(h.mask)
	return h.branch(0, 0)
}

// deal gives out groups in rounds, largest first, one to each node a round, to
// the node with the least share first.
func (h *homes) deal() {
	nodes := make([]int, len(h.power))
	for n := range nodes {
		nodes[n] = n
	}
	clear(h.sum)
	for r := range h.each {
		slices.SortStableFunc(nodes, func(a, b int) int {
			return cmp.Compare(h.share(a, h.sum[a]), h.share(b, h.sum[b]))
		})
		for i, n := range nodes {
			g := h.order[r*len(nodes)+i]
			h.best[g] = int32(n)
			h.sum[n] += h.load[g]
		}
	}
}

// branch places the groups from the i-th on. It returns true to end the search.
func (h *homes) branch(i int, value float64) bool {
	if h.visits--; h.visits <= 0 && !math.IsInf(h.value, 1) {
		return !h.add // out of budget: without add, what was found must do
	}
	if i == h.groups {
		second := 0.0
		for n, x := range h.sum {
			second += float64(h.share(n, x) * x)
		}
		if value < h.value*(1-1e-12) || value <= h.value && second < h.second {
			h.value, h.second = value, second
			copy(h.best, h.at)
		}
		return h.add || (h.groups > memoGroups && h.value <= h.floor)
	}
	g := h.order[i]
	nodes := len(h.power)
	try := h.ranked[i*nodes : i*nodes]
	// The node that is emptiest after it first.
	for n := range h.power {
		if h.used[n] == h.each || (h.used[n] == 0 && h.twin(n)) {
			continue
		}
		try = append(try, int32(n))
		for j := len(try) - 1; j > 0 && h.share(int(try[j]), h.sum[try[j]]+h.load[g]) < h.share(int(try[j-1]), h.sum[try[j-1]]+h.load[g]); j-- {
			try[j], try[j-1] = try[j-1], try[j]
		}
	}
	for _, t := range try {
		n := int(t)
		v := value
		if !h.add {
			v = max(v, h.share(n, h.sum[n]+h.load[g]))
		}
		if v > h.value {
			continue
		}
		sum := h.sum[n]
		h.at[g] = t
		h.used[n]++
		h.sum[n] += h.load[g]
		h.mask[n] |= 1 << (uint(g) & 31)
		if h.used[n] == h.each {
			c := h.cost(n, h.mask[n])
			if h.add {
				v += c
			} else {
				v = max(v, c)
			}
		}
		done := v <= h.value && h.branch(i+1, v)
		h.at[g] = -1
		h.used[n]--
		h.sum[n] = sum
		h.mask[n] &^= 1 << (uint(g) & 31)
		if done {
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
		sum := 0.0
		last := j*len(h.power) + 1 // groups looked at
		for _, g := range h.order[last-j-1 : last] {
			sum += h.load[g]
		}
		for _, g := range h.order[h.groups-(h.each-j-1):] {
			sum += h.load[g]
		}
		most = max(most, sum)
	}
	return most / h.most
}
