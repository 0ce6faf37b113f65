package flow

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// Net is what a placement of one layer allows: each expert on more than one GPU
// has an arc to each. The others are loads that cannot be moved.
type Net struct {
	Speed []float64 // of each GPU; 0 = out of service
	equal bool      // all speeds are 1
	Alone []Held    // the experts that are on one GPU only

	Expert []int32 // the replicated experts
	First  []int32 // expert i has the arcs [First[i], First[i+1])
	GPU    []int32 // of each arc
	Slot   []int32 // of each arc
	Owner  []int32 // of each arc: its place in Expert

	Start []int32 // GPU g has the arcs ByGPU[Start[g]:Start[g+1]]
	ByGPU []int32

	// Trees that span the GPUs which chains of shared experts join: every GPU
	// but a root has an arc by which it hangs from an expert, and that expert
	// one by which it hangs from a GPU. Outer GPUs come last.
	hang   []int32
	parent []int32
	tree   []int32   // of each GPU
	size   []float64 // GPUs of a tree, or their speeds

	room []int32 // what all of int32 lie in
}

// Held is where an expert is.
type Held struct{ Expert, GPU, Slot int32 }

// Linker makes the nets of placements on one unit. Its memory is used again for
// every net. Not safe for concurrent use.
type Linker struct {
	GPU   []int32 // of each slot
	speed []float64
	equal bool
	on    []int32 // on how many GPUs each expert is
	seen  []int32 // 1 + the GPU that was seen last to hold it
	at    []int32 // its next arc
	queue []int32 // GPUs
}

// NewLinker is one for a unit where GPU g has the slots [first[g], first[g+1]). speed is
// of each GPU, nil = all equal.
func NewLinker(first []int, experts int, speed []float64) *Linker {
	gpus := len(first) - 1
	of := make([]int32, first[gpus])
	for g := range gpus {
		for i := first[g]; i < first[g+1]; i++ {
			of[i] = int32(g)
		}
	}
	equal := speed == nil
	if equal {
		speed = slices.Repeat([]float64{1}, gpus)
	}
	return &Linker{of, speed, equal, make([]int32, experts), make([]int32, experts), make([]int32, experts), make([]int32, gpus)}
}

// Link makes n the net of a layer whose slots hold the experts of row, -1 = none, in
// n's memory where that is enough. Where a GPU holds an expert twice the first slot
// counts. Cost: two passes over the slots.
func Link[E int | int32](in *Linker, n *Net, row []E) {
	clear(in.on)
	clear(in.seen)
	for i, e := range row {
		if in.first(i, int32(e)) {
			in.on[e]++
		}
	}
	experts, arcs := 0, 0
	for _, k := range in.on {
		if k > 1 {
			experts++
			arcs += int(k)
		}
	}
	n.reset(len(in.queue), len(row)-arcs, experts, arcs)
	n.Speed, n.equal = in.speed, in.equal
	last := int32(0)
	for e, k := range in.on {
		if k > 1 {
			in.at[e] = last
			last += k
			n.Expert = append(n.Expert, int32(e))
			n.First = append(n.First, last)
		}
	}
	clear(in.seen)
	for i, e := range row {
		switch {
		case !in.first(i, int32(e)):
		case in.on[e] == 1:
			n.Alone = append(n.Alone, Held{int32(e), in.GPU[i], int32(i)})
		default:
			a := in.at[e]
			n.GPU[a], n.Slot[a] = in.GPU[i], int32(i)
			in.at[e]++
		}
	}
	n.sortByGPU()
	n.grow(in.queue, in.seen)
}

// first says whether slot i, where expert e is, is the first of its GPU to hold
// it. It is asked in the order of the slots.
func (in *Linker) first(i int, e int32) bool {
	g := in.GPU[i] + 1
	if e < 0 || in.seen[e] == g {
		return false
	}
	in.seen[e] = g
	return true
}

// reset makes room for so many experts and arcs, and no more alone, all in one piece: a net is as much to
// look at as to link.
func (n *Net) reset(gpus, alone, experts, arcs int) {
	n.room = memory.Resize(n.room, 2*experts+1+4*arcs+4*gpus+1)
	room := n.room
	cut := func(n int) []int32 {
		x := room[:n:n]
		room = room[n:]
		return x
	}
	*n = Net{
		Alone: memory.Resize(n.Alone, alone)[:0], Expert: cut(experts)[:0], First: cut(experts + 1)[:1],
		GPU: cut(arcs), Slot: cut(arcs), Owner: cut(arcs), ByGPU: cut(arcs), Start: cut(gpus + 1),
		hang: cut(gpus)[:0], parent: cut(gpus)[:0], tree: cut(gpus), size: n.size[:0], room: n.room,
	}
	n.First[0] = 0
}

// sortByGPU lists the arcs of each GPU.
func (n *Net) sortByGPU() {
	gpus := len(n.tree)
	clear(n.Start)
	for _, g := range n.GPU {
		n.Start[g+1]++
	}
	for g := range gpus {
		n.Start[g+1] += n.Start[g]
	}
	for i := range n.Expert {
		for a := n.First[i]; a < n.First[i+1]; a++ {
			n.Owner[a] = int32(i)
			g := n.GPU[a]
			n.ByGPU[n.Start[g]] = a
			n.Start[g]++
		}
	}
	copy(n.Start[1:], n.Start[:gpus])
	n.Start[0] = 0
}

// grow finds the trees, with memory for a queue of GPUs and of the experts passed.
func (n *Net) grow(queue, passed []int32) {
	clear(passed)
	for g := range n.tree {
		n.tree[g] = -1
	}
	for root := range n.tree {
		if n.tree[root] >= 0 {
			continue
		}
		t, size := int32(len(n.size)), 0.0
		queue[0], n.tree[root] = int32(root), t
		for k, end := 0, 1; k < end; k++ {
			g := queue[k]
			size += n.Speed[g]
			for _, a := range n.ByGPU[n.Start[g]:n.Start[g+1]] {
				i := n.Owner[a]
				if passed[i] != 0 {
					continue
				}
				passed[i] = 1
				for b := n.First[i]; b < n.First[i+1]; b++ {
					if o := n.GPU[b]; n.tree[o] < 0 {
						n.tree[o] = t
						n.hang, n.parent = append(n.hang, b), append(n.parent, a)
						queue[end] = o
						end++
					}
				}
			}
		}
		n.size = append(n.size, size)
	}
}
