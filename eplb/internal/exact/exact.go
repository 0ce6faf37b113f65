package exact

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/eplb/internal/memory"
	"github.com/moelb/moelb/eplb/internal/pack"
)

const (
	// exactSlots is the most slots of a layer that is searched exhaustively.
	exactSlots = 64
	// exactWork ends that search: a count, not a time, so that the answer is the
	// same everywhere. A few milliseconds.
	exactWork = 1 << 17
	// ExactMargin is what a placement must gain to count as better: far more
	// than rounding makes of a sum, far less than anyone sees.
	ExactMargin = 1e-12
)

// Search finds the best placement of a layer by branch and bound: experts by
// load, largest first, each with every number of replicas on every set of GPUs.
//
// All replicas of an expert are placed at once, so what is left to do depends on
// each GPU's load, room and speed alone: of GPUs that agree in all three only
// the first ones are tried (which is no loss, since they may change names), and
// of experts of equal load the earlier gets no fewer replicas (likewise). A
// branch ends where no placement in it can be below the target T, because
//
//   - a GPU would be above T·speed already;
//   - a GPU has more room than there are experts left (every slot is filled, no expert
//     twice on a GPU);
//   - the GPUs with room, up to T·speed each, cannot take the load that is left:
//     the others take no more;
//   - a GPU has k slots left, and the k coldest experts left, each cut as small
//     as the slots and GPUs allow, bring it above T·speed.
type Search struct {
	s      *pack.Packer
	Target float64 // T: what is found must be below it
	Work   int     // steps left
	Done   bool    // the tree was searched to its end
	Stop   func() bool

	load  []float64 // of each GPU
	room  []int     // slots left of each
	count []int32   // replicas of each expert placed so far, by rank
	set   []bool    // [rank][GPU]: the sets of GPUs chosen
	order []int     // [rank][GPU]: GPUs, emptiest first
	sums  []float64 // [rank]: load of that expert and of all after it

	Home  []int32 // node of each expert; nil = anywhere
	Spare []int   // of each node: slots that a GPU may leave empty; nil = none
	Empty int     // slots that may be empty, in all
	May   int     // replicas that may be elsewhere
	out   int     // and those that are
	Apart bool    // every expert is on two nodes
}

func New(s *pack.Packer) *Search { return &Search{s: s} }

// Improve searches a small layer exhaustively, from the best placement
// known. It returns the bound, which is that placement's level if the search
// came to its end: then nothing is better.
func (x *Search) Improve(bound float64, thrift int, stop func() bool) float64 {
	s := x.s
	if s.U.Slots > exactSlots || s.Best.Level <= bound*(1+pack.ProvedTolerance) {
		return bound
	}
	x.Target, x.Work, x.Done, x.Stop = s.Best.Level*(1-ExactMargin), exactWork/thrift, true, stop
	x.EverySet()
	if x.Done {
		// Nothing is below the target, which is the level but for rounding.
		return s.Best.Level
	}
	return bound
}

// EverySet searches from the root.
func (x *Search) EverySet() {
	s := x.s
	experts, gpus := len(s.W), len(s.U.Gpu)
	x.load = memory.Resize(x.load, gpus)
	x.room = memory.Resize(x.room, gpus)
	x.count = memory.Resize(x.count, experts)
	x.set = memory.Resize(x.set, experts*gpus)
	x.order = memory.Resize(x.order, experts*gpus)
	x.sums = memory.Resize(x.sums, experts+1)
	clear(x.load)
	clear(x.set)
	for g := range x.room {
		x.room[g] = s.U.Room(g)
	}
	x.sums[experts] = 0
	for i := experts - 1; i >= 0; i-- {
		x.sums[i] = x.sums[i+1] + s.W[s.Order[i]]
	}
	x.out = 0
	x.branch(0, s.U.Slots)
}

// away is 1 where the expert of rank i is not at home on GPU g.
func (x *Search) away(i, g int) int {
	if x.Home != nil && int(x.Home[x.s.Order[i]]) != x.s.U.Node[g] {
		return 1
	}
	return 0
}

// branch places the experts from rank i on in the slots that are left.
func (x *Search) branch(i, slots int) {
	s, u := x.s, x.s.U
	experts := len(x.s.W) - i
	if x.hopeless(i, slots) {
		return
	}
	if experts == 0 {
		x.keep()
		return
	}
	gpus := len(u.Gpu)
	if x.Work -= gpus; x.Work < 0 || x.Stop() {
		x.Done = false
		return
	}
	order := x.order[i*gpus : i*gpus : (i+1)*gpus]
	most := 0
	for g := range u.Gpu {
		if x.room[g] == 0 {
			continue
		}
		order = append(order, g)
		most += min(x.room[g], experts-1) // what the other experts can fill
	}
	slices.SortFunc(order, x.emptier)
	least := int(s.Least)
	low, high := max(least, slots-most-x.Empty), min(len(order), slots-least*(experts-1))
	w := s.W[s.Order[i]]
	if i > 0 && w == s.W[s.Order[i-1]] && (x.Home == nil || x.Home[s.Order[i]] == x.Home[s.Order[i-1]]) {
		high = min(high, int(x.count[i-1]))
	}
	// The count of the best placement first, then those next to it, fewer and more in turn.
	first := min(max(int(s.Best.Count[s.Order[i]]), low), high)
	if w == 0 { // as many as there can be fill all slots
		first = high
	}
	for d := range 2*(high-low) + 1 {
		n := first + d/2
		if d%2 == 1 {
			n = first - (d+1)/2
		}
		if n < low || n > high {
			continue
		}
		x.count[i] = int32(n)
		if x.choose(i, order, 0, n, w/float64(n), slots-n); !x.Done {
			return
		}
	}
}

// emptier orders GPUs for branch; those that do not differ are alike.
func (x *Search) emptier(a, b int) int {
	v := x.s.U.Speed
	if c := cmp.Compare(x.load[a]*v[b], x.load[b]*v[a]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(v[b], v[a]), cmp.Compare(x.load[a], x.load[b]), x.room[b]-x.room[a], a-b)
}

// choose puts n replicas of the expert of rank i on GPUs of order[k:].
func (x *Search) choose(i int, order []int, k, n int, size float64, slots int) {
	u := x.s.U
	if n == 0 {
		if !x.Apart || x.twoNodes(i) {
			x.branch(i+1, slots)
		}
		return
	}
	for ; k <= len(order)-n && x.Done; k++ {
		g := order[k]
		x.Work--
		away := x.away(i, g)
		if l := x.load[g] + size; l < float64(x.Target*u.Speed[g]) && x.out+away <= x.May {
			was := x.load[g]
			x.load[g] = l
			x.room[g]--
			x.out += away
			x.set[i*len(u.Gpu)+g] = true
			x.choose(i, order, k+1, n-1, size, slots)
			x.set[i*len(u.Gpu)+g] = false
			x.out -= away
			x.room[g]++
			x.load[g] = was
		}
		// Without g: then without the GPUs that are like it.
		for k+1 < len(order) && x.load[order[k+1]] == x.load[g] && x.room[order[k+1]] == x.room[g] && u.Speed[order[k+1]] == u.Speed[g] &&
			(x.Home == nil && !x.Apart || u.Node[order[k+1]] == u.Node[g]) {
			k++
		}
	}
}

// twoNodes says whether the expert of rank i is on two nodes.
func (x *Search) twoNodes(i int) bool {
	u, nodes, last := x.s.U, 0, -1
	for g, in := range x.set[i*len(u.Gpu) : (i+1)*len(u.Gpu)] {
		if in && u.Node[g] != last {
			last = u.Node[g]
			nodes++
		}
	}
	return nodes > 1
}

// hopeless says whether no placement below the target is left: see Search.
func (x *Search) hopeless(i, slots int) bool {
	u, end := x.s.U, len(x.s.W)
	experts := end - i
	most := min(len(u.Gpu), slots-int(x.s.Least)*(experts-1)) // replicas an expert can have
	space := 0.0
	for g, v := range u.Speed {
		k, free := x.room[g], float64(x.Target*v)-x.load[g]
		if x.Spare != nil {
			k -= min(k, x.Spare[u.Node[g]])
		}
		if k > experts || free <= 0 || x.sums[end-k]/float64(most) > free {
			return true
		}
		if x.room[g] > 0 {
			space += free
		}
	}
	return x.sums[i] > space*(1+1e-13) // rounding must not end a branch
}

// keep keeps the placement that all experts are in, which is better than the best so far.
func (x *Search) keep() {
	s, u := x.s, x.s.U
	for k, e := range s.Order {
		s.Count[e] = x.count[k]
	}
	for g := range u.Gpu {
		at := s.Slot[u.First[g]:u.First[g]]
		for k, e := range s.Order {
			if x.set[k*len(u.Gpu)+g] {
				at = append(at, e)
			}
		}
		for range x.room[g] {
			at = append(at, -1)
		}
	}
	s.Cut()
	s.Keep()
	x.Target = min(x.Target, s.Best.Level*(1-ExactMargin))
}
