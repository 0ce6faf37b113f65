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
	first []int     // GPU g has the slots [first[g], first[g+1])
	Alone []Held    // the experts that are on one GPU only

	Expert []int32 // the replicated experts
	First  []int32 // expert i has the arcs [First[i], First[i+1])
	GPU    []int32 // of each arc
	Slot   []int32 // of each arc
	Owner  []int32 // of each arc: its place in Expert
	arc    []int32 // of each slot; -1 = none

	// Trees that span the GPUs which chains of shared experts join: every GPU
	// but a root has an arc by which it hangs from an expert, and that expert
	// one by which it hangs from a GPU. Outer GPUs come last.
	hang   []int32
	parent []int32
	tree   []int32   // of each GPU
	size   []float64 // GPUs of a tree, or their speeds
}

// Held is where an expert is.
type Held struct{ Expert, GPU, Slot int32 }

// Linker makes the nets of placements on one unit. Its memory is used again for
// every net. Not safe for concurrent use.
type Linker struct {
	GPU   []int32 // of each slot
	first []int
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
	return &Linker{of, first, speed, equal, make([]int32, experts), make([]int32, experts), make([]int32, experts), make([]int32, gpus)}
}

// Link makes n the net of a layer whose slots hold the experts of row, -1 = none, in
// n's memory where that is enough. Where a GPU holds an expert twice the first slot
// counts. Cost: two passes over the slots.
func Link[E int | int32](in *Linker, n *Net, row []E) {
	n.Speed, n.equal, n.first = in.speed, in.equal, in.first
	n.Alone, n.Expert, n.Owner = n.Alone[:0], n.Expert[:0], n.Owner[:0]
	clear(in.on)
	clear(in.seen)
	for i, e := range row {
		if in.sees(i, int32(e)) {
			in.on[e]++
		}
	}
	n.First = append(n.First[:0], 0)
	for e, k := range in.on {
		if k > 1 {
			in.at[e] = int32(len(n.Owner))
			for range k {
				n.Owner = append(n.Owner, int32(len(n.Expert)))
			}
			n.Expert = append(n.Expert, int32(e))
			n.First = append(n.First, int32(len(n.Owner)))
		}
	}
	n.GPU, n.Slot, n.arc = memory.Resize(n.GPU, len(n.Owner)), memory.Resize(n.Slot, len(n.Owner)), memory.Resize(n.arc, len(row))
	clear(in.seen)
	for i, e := range row {
		n.arc[i] = -1
		switch {
		case !in.sees(i, int32(e)):
		case in.on[e] == 1:
			n.Alone = append(n.Alone, Held{int32(e), in.GPU[i], int32(i)})
		default:
			a := in.at[e]
			n.GPU[a], n.Slot[a], n.arc[i] = in.GPU[i], int32(i), a
			in.at[e]++
		}
	}
	n.grow(in.queue, in.seen)
}

// sees says whether slot i, where expert e is, is the first of its GPU to hold
// it. It is asked in the order of the slots.
func (in *Linker) sees(i int, e int32) bool {
	g := in.GPU[i] + 1
	if e < 0 || in.seen[e] == g {
		return false
	}
	in.seen[e] = g
	return true
}

// On lists the arcs to GPU g, and -1 for its other slots.
func (n *Net) On(g int32) []int32 { return n.arc[n.first[g]:n.first[g+1]] }

// grow finds the trees, with memory for a queue of GPUs and of the experts passed.
func (n *Net) grow(queue, passed []int32) {
	clear(passed)
	n.tree = memory.Resize(n.tree, len(n.Speed))
	n.hang, n.parent, n.size = n.hang[:0], n.parent[:0], n.size[:0]
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
			for _, a := range n.On(g) {
				if a < 0 || passed[n.Owner[a]] != 0 {
					continue
				}
				i := n.Owner[a]
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
