package eplb

const (
	// exactHomeSlots is the most slots of a layer that is searched exhaustively
	// with groups on nodes.
	exactHomeSlots = 24
	// exactHomeWork ends that search: a count, not a time, so that the answer is
	// the same everywhere. About a millisecond.
	exactHomeWork = 1 << 16
	// exactHomeMargin is what a placement must gain to count as better: far more
	// than rounding makes of a sum.
	exactHomeMargin = 1e-12
)

// exactHome finds the best placement of a small layer by branch and bound: every
// choice of homes, and under it experts by load, largest first, each with every
// number of replicas on every set of GPUs. Of GPUs of one node that agree in
// load, room and speed only the first are tried. A branch ends where
//
//   - a GPU is not below the target T already, or has more room than there are
//     experts left to fill it;
//   - the room that is left, up to T, cannot take the load that is left, in all
//     or, but for the replicas that may yet leave it, on a node;
//   - the experts left, cut to what the emptiest GPU can take, need more slots
//     than are left.
type exactHome struct {
	target float64
	work   int
	done   bool // the tree was searched to its end
	may    int
	out    int
	load   []float64 // of each GPU
	room   []int
	set    []bool    // [rank][GPU]
	count  []int     // replicas of each expert, by rank
	rest   []float64 // [rank]: load of that expert and all after it
	atHome []float64 // [rank][node]: the same of the node's groups alone
	used   []int     // groups on each node
	stop   func() bool
}

// exactly searches a small layer exhaustively for what is better than the best
// plan. It returns the bound, raised to the best level if the search came to its
// end.
func (lo *locality) exactly(bound float64, stop func() bool) float64 {
	s := lo.s
	gpus, nodes := len(s.u.gpu), len(lo.nodes)
	if s.u.slots > exactHomeSlots || s.best.level <= bound*(1+provedTolerance) {
		return bound
	}
	x := &lo.exact
	if x.load == nil {
		x.load, x.room = make([]float64, gpus), make([]int, gpus)
		x.set, x.count = make([]bool, lo.experts*gpus), make([]int, lo.experts)
		x.rest, x.atHome = make([]float64, lo.experts+1), make([]float64, (lo.experts+1)*nodes)
		x.used = make([]int, nodes)
	}
	x.stop = stop
	for i := lo.experts - 1; i >= 0; i-- {
		x.rest[i] = x.rest[i+1] + s.w[s.order[i]]
	}
	// Where not all can be searched, fewer replicas off their nodes are searched
	// too, as leaveHomes does.
	for x.may = lo.off; ; x.may = halfOf(x.may) {
		x.target, x.work, x.done = s.best.level*(1-exactHomeMargin), exactHomeWork, true
		lo.everyHome(0)
		if x.done && x.may == lo.off {
			bound = s.best.level
		}
		if x.done || x.may == 0 || stop() {
			break
		}
	}
	lo.setHome(lo.bestHome)
	return bound
}

// halfOf is the next power of two below x, or 0.
func halfOf(x int) int {
	if x <= 1 {
		return 0
	}
	half := 1
	for half*2 < x {
		half *= 2
	}
	return half
}

// everyHome tries every home of the groups from g on.
func (lo *locality) everyHome(g int) {
	x, h := &lo.exact, lo.homes
	if g == h.groups {
		lo.setHome(lo.home)
		nodes := len(lo.nodes)
		for i := lo.experts - 1; i >= 0; i-- {
			copy(x.atHome[i*nodes:(i+1)*nodes], x.atHome[(i+1)*nodes:])
			e := lo.s.order[i]
			x.atHome[i*nodes+int(lo.homeAt[e])] += lo.s.w[e]
		}
		for g := range x.room {
			x.room[g] = lo.s.u.room(g)
		}
		clear(x.load)
		clear(x.set)
		x.out = 0
		lo.branchHome(0, lo.s.u.slots)
		return
	}
	for n := range lo.nodes {
		twin := false
		for m := range n {
			twin = twin || (x.used[n] == 0 && x.used[m] == 0 && h.alike[m] == h.alike[n])
		}
		if x.used[n] == h.each || twin || !x.done {
			continue
		}
		x.used[n]++
		lo.home[g] = int32(n)
		lo.everyHome(g + 1)
		x.used[n]--
	}
}

// branchHome places the experts from rank i on in the slots that are left.
func (lo *locality) branchHome(i, slots int) {
	x, s := &lo.exact, lo.s
	if lo.hopelessHome(i, slots) {
		return
	}
	if i == lo.experts {
		lo.completeHome()
		return
	}
	if x.work -= len(x.load); x.work < 0 || x.stop() {
		x.done = false
		return
	}
	w := s.w[s.order[i]]
	for n := 1; n <= len(x.load) && n <= slots && x.done; n++ {
		x.count[i] = n
		lo.chooseGPUs(i, 0, n, w/float64(n), slots-n)
	}
}

// chooseGPUs puts n replicas of the expert of rank i on GPUs from g on.
func (lo *locality) chooseGPUs(i, g, n int, size float64, slots int) {
	x, u := &lo.exact, lo.s.u
	if n == 0 {
		lo.branchHome(i+1, slots)
		return
	}
	e := lo.s.order[i]
	for ; g <= len(x.load)-n && x.done; g++ {
		x.work--
		away := lo.offHere(e, g)
		if l := x.load[g] + size; x.room[g] > 0 && x.out+away <= x.may && l < float64(x.target*u.speed[g]) {
			was := x.load[g]
			x.load[g] = l
			x.room[g]--
			x.out += away
			x.set[i*len(x.load)+g] = true
			lo.chooseGPUs(i, g+1, n-1, size, slots)
			x.set[i*len(x.load)+g] = false
			x.out -= away
			x.room[g]++
			x.load[g] = was
		}
		// Without g: then without the GPUs after it that are like it.
		for g+1 < len(x.load) && x.load[g+1] == x.load[g] && x.room[g+1] == x.room[g] && u.speed[g+1] == u.speed[g] && u.node[g+1] == u.node[g] {
			g++
		}
	}
}

// hopelessHome says whether no placement below the target is left.
func (lo *locality) hopelessHome(i, slots int) bool {
	x, s := &lo.exact, lo.s
	const slack = 1 + 1e-12 // rounding must not end a branch
	left := lo.experts - i
	if slots < left {
		return true
	}
	all, widest, leave := 0.0, 0.0, 0.0
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		space := 0.0
		for g := ns.lo; g < ns.hi; g++ {
			if x.room[g]-len(ns.pseudo) > left {
				return true
			}
			if free := float64(x.target*s.u.speed[g]) - x.load[g]; x.room[g] > 0 {
				space += free
				widest = max(widest, free)
			}
		}
		all += space
		leave += max(0, x.atHome[i*len(lo.nodes)+n]-space*slack)
	}
	if x.rest[i] > all*slack || leave > float64(x.may-x.out)*widest*slack {
		return true
	}
	need := left
	for _, e := range s.order[i:lo.experts] {
		if s.w[e] <= widest {
			break
		}
		if need += ceilDiv(s.w[e], widest*slack) - 1; need > slots {
			return true
		}
	}
	return false
}

// completeHome keeps the placement found.
func (lo *locality) completeHome() {
	x, s := &lo.exact, lo.s
	clear(s.count)
	for g := range x.load {
		at := s.u.first[g]
		for i := range lo.experts {
			if x.set[i*len(x.load)+g] {
				s.slot[at] = s.order[i]
				s.count[s.order[i]]++
				at++
			}
		}
		for _, e := range lo.nodes[s.u.node[g]].pseudo {
			if at < s.u.first[g+1] {
				s.slot[at] = e
				s.count[e]++
				at++
			}
		}
	}
	for e, w := range s.w {
		s.size[e] = w / float64(max(s.count[e], 1))
	}
	lo.keepWhole()
	x.target = min(x.target, s.best.level*(1-exactHomeMargin))
}
