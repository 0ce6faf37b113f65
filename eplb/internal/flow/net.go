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
	arc    []int32 // arcs by GPU
	start  []int32 // GPU g has arc[start[g]:start[g+1]]
}

// Held is where an expert is.
type Held struct{ Expert, GPU, Slot int32 }

// On lists the arcs to GPU g.
func (n *Net) On(g int32) []int32 { return n.arc[n.start[g]:n.start[g+1]] }

// Linker makes the nets of placements on one unit. Its memory is used again for
// every net. Not safe for concurrent use.
type Linker struct {
	GPU   []int32 // of each slot
	speed []float64
	equal bool
	on    []int32 // on how many GPUs each expert is
	seen  []int32 // 1 + the GPU that was seen last to hold it
	at    []int32 // its next arc
}

// NewLinker is one for a unit where GPU g has the slots [first[g], first[g+1]). speed is
// of each GPU, nil = all equal.
func NewLinker(first []int, experts int, speed []float64) *Linker {
	in := &Linker{speed: speed, equal: speed == nil, on: make([]int32, experts), seen: make([]int32, experts), at: make([]int32, experts)}
	for g := range len(first) - 1 {
		in.GPU = append(in.GPU, slices.Repeat([]int32{int32(g)}, first[g+1]-first[g])...)
	}
	if in.equal {
		in.speed = slices.Repeat([]float64{1}, len(first)-1)
	}
	return in
}

// Link makes n the net of a layer whose slots hold the experts of row, -1 = none, in
// n's memory where that is enough. Where a GPU holds an expert twice the first slot
// counts. Cost: two passes over the slots.
func Link[E int | int32](in *Linker, n *Net, row []E) {
	n.Speed, n.equal = in.speed, in.equal
	n.Alone, n.Expert, n.Owner, n.arc, n.start = n.Alone[:0], n.Expert[:0], n.Owner[:0], n.arc[:0], n.start[:0]
	clear(in.on)
	clear(in.seen)
	for i, e := range row {
		if in.sees(i, int32(e)) {
			in.on[e]++
		}
	}
	n.First = append(n.First[:0], 0)
	for e, k := range in.on {
		if in.at[e] = int32(len(n.Owner)); k > 1 {
			for range k {
				n.Owner = append(n.Owner, int32(len(n.Expert)))
			}
			n.Expert = append(n.Expert, int32(e))
			n.First = append(n.First, int32(len(n.Owner)))
		}
	}
	n.GPU, n.Slot = memory.Resize(n.GPU, len(n.Owner)), memory.Resize(n.Slot, len(n.Owner))
	clear(in.seen)
	for i, e := range row {
		g := in.GPU[i]
		for len(n.start) <= int(g) {
			n.start = append(n.start, int32(len(n.arc)))
		}
		switch {
		case !in.sees(i, int32(e)):
		case in.on[e] == 1:
			n.Alone = append(n.Alone, Held{int32(e), g, int32(i)})
		default:
			a := in.at[e]
			n.GPU[a], n.Slot[a] = g, int32(i)
			n.arc = append(n.arc, a)
			in.at[e]++
		}
	}
	for len(n.start) <= len(in.speed) {
		n.start = append(n.start, int32(len(n.arc)))
	}
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
