package flow

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// Net is what a placement of one layer allows: which slots each expert can be served from.
type Net struct {
	*Unit
	Shared []int32 // of each slot: its expert, -1 = none, or one that is on this GPU only
	at     []int32 // slots by expert, of every GPU that holds it the first
	first  []int32 // expert e has at[first[e]:first[e+1]]
}

// Of is the slots of expert e, one on each GPU that holds it.
func (n *Net) Of(e int) []int32 { return n.at[n.first[e]:n.first[e+1]] }

// Unit is the GPUs that placements are on. Its memory is used for every net that is
// linked; not safe for concurrent use.
type Unit struct {
	Speed []float64 // of each GPU; 0 = out of service
	First []int     // GPU g has the slots [First[g], First[g+1])
	GPU   []int32   // of each slot
	equal bool      // all speeds are 1
	seen  []int32   // 1 + the GPU that was seen last to hold each expert
}

// NewUnit is a unit where GPU g has the slots [first[g], first[g+1]). speed is of each GPU,
// nil = all equal.
func NewUnit(first []int, experts int, speed []float64) *Unit {
	u := &Unit{Speed: speed, First: first, equal: speed == nil, seen: make([]int32, experts)}
	for g := range len(first) - 1 {
		u.GPU = append(u.GPU, slices.Repeat([]int32{int32(g)}, first[g+1]-first[g])...)
	}
	if u.equal {
		u.Speed = slices.Repeat([]float64{1}, len(first)-1)
	}
	return u
}

// Link makes n the net of a layer whose slots hold the experts of row, -1 = none, in
// n's memory where that is enough. Where a GPU holds an expert twice the first slot
// counts. Cost: two passes over the slots.
func Link[E int | int32](u *Unit, n *Net, row []E) {
	experts := len(u.seen)
	n.Unit, n.Shared, n.first = u, n.Shared[:0], memory.Resize(n.first, experts+2)
	clear(n.first)
	clear(u.seen)
	for i, x := range row {
		e := int32(x)
		if e >= 0 && u.seen[e] == u.GPU[i]+1 {
			e = -1
		}
		if n.Shared = append(n.Shared, e); e >= 0 {
			u.seen[e] = u.GPU[i] + 1
			n.first[e+2]++
		}
	}
	for e := range experts {
		n.first[e+2] += n.first[e+1]
	}
	n.at = memory.Resize(n.at, len(row))
	for i, e := range n.Shared {
		if e >= 0 {
			n.at[n.first[e+1]] = int32(i)
			n.first[e+1]++
		}
	}
	for e := range experts {
		if at := n.Of(e); len(at) == 1 {
			n.Shared[at[0]] = -1
		}
	}
}
