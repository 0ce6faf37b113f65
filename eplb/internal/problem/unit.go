package problem

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// Unit is the GPUs in service and the slots the search fills: what all layers
// of a problem share. GPUs out of service are left out, and a GPU with more
// slots than there are experts counts only as many: the others can but repeat.
type Unit struct {
	Gpu   []int     // each GPU's number in the topology
	Node  []int     // and its node
	First []int     // GPU g has the slots [first[g], first[g+1])
	Start []int     // the number of its first slot in the placement
	Speed []float64 // scaled to a mean of 1
	Equal bool      // all speeds are 1
	Slots int
}

// NewUnit keeps the GPUs of t that are in service.
func NewUnit(t *placement.Topology, replicas, experts int) *Unit {
	u := &Unit{First: []int{0}, Equal: true}
	at, speeds := 0, 0.0
	for g, n := range placement.EvenSlots(replicas, t.GPUs) {
		if t.SpeedOf(g) > 0 {
			u.Gpu = append(u.Gpu, g)
			u.Node = append(u.Node, t.Node(g))
			u.Start = append(u.Start, at)
			u.Slots += min(n, experts)
			u.First = append(u.First, u.Slots)
			u.Speed = append(u.Speed, t.SpeedOf(g))
			speeds += t.SpeedOf(g)
		}
		at += n
	}
	for _, s := range u.Speed {
		u.Equal = u.Equal && s == u.Speed[0]
	}
	for g, s := range u.Speed {
		u.Speed[g] = s * float64(len(u.Speed)) / speeds
		if u.Equal {
			u.Speed[g] = 1
		}
	}
	return u
}

// Alike says whether all GPUs are of one speed and have as many slots.
func (u *Unit) Alike() bool {
	for g := range u.Gpu {
		if u.Room(g) != u.Room(0) {
			return false
		}
	}
	return u.Equal
}

// Room is the number of slots of a GPU.
func (u *Unit) Room(g int) int { return u.First[g+1] - u.First[g] }

// Fastest is the largest speed of a GPU.
func (u *Unit) Fastest() float64 { return slices.Max(u.Speed) }

// Write writes the slots of u into a row of a placement, -1 elsewhere.
func (u *Unit) Write(slot []int32, row []int) {
	for i := range row {
		row[i] = -1
	}
	for g, at := range u.Start {
		for i, e := range slot[u.First[g]:u.First[g+1]] {
			row[at+i] = int(e)
		}
	}
}

// Read reads the slots of u from a row of a placement.
func (u *Unit) Read(row []int, slot []int32) {
	for g, at := range u.Start {
		for i := range u.Room(g) {
			slot[u.First[g]+i] = int32(row[at+i])
		}
	}
}
