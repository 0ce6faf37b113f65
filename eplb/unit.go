package eplb

import "github.com/moelb/moelb/placement"

// unit is the GPUs in service and the slots the search fills: what all layers
// of a problem share. GPUs out of service are left out, and a GPU with more
// slots than there are experts counts only as many: the others can but repeat.
type unit struct {
	gpu   []int     // each GPU's number in the topology
	node  []int     // and its node
	first []int     // GPU g has the slots [first[g], first[g+1])
	start []int     // the number of its first slot in the placement
	speed []float64 // scaled to a mean of 1
	equal bool      // all speeds are 1
	slots int
}

// newUnit keeps the GPUs of t that are in service and pass keep (nil = all).
func newUnit(t *placement.Topology, replicas, experts int, keep func(gpu int) bool) *unit {
	u := &unit{first: []int{0}, equal: true}
	at, speeds := 0, 0.0
	for g, n := range placement.EvenSlots(replicas, t.GPUs) {
		if t.SpeedOf(g) > 0 && (keep == nil || keep(g)) {
			u.gpu = append(u.gpu, g)
			u.node = append(u.node, t.Node(g))
			u.start = append(u.start, at)
			u.slots += min(n, experts)
			u.first = append(u.first, u.slots)
			u.speed = append(u.speed, t.SpeedOf(g))
			speeds += t.SpeedOf(g)
		}
		at += n
	}
	for _, s := range u.speed {
		u.equal = u.equal && s == u.speed[0]
	}
	for g, s := range u.speed {
		u.speed[g] = s * float64(len(u.speed)) / speeds
		if u.equal {
			u.speed[g] = 1
		}
	}
	return u
}

// room is the number of slots of a GPU.
func (u *unit) room(g int) int { return u.first[g+1] - u.first[g] }

// fastest is the largest speed of a GPU.
func (u *unit) fastest() float64 {
	most := 0.0
	for _, s := range u.speed {
		most = max(most, s)
	}
	return most
}

// write writes the slots of u into a row of a placement, -1 elsewhere.
func (u *unit) write(slot []int32, row []int) {
	for i := range row {
		row[i] = -1
	}
	for g, at := range u.start {
		for i, e := range slot[u.first[g]:u.first[g+1]] {
			row[at+i] = int(e)
		}
	}
}

// read reads the slots of u from a row of a placement.
func (u *unit) read(row []int, slot []int32) {
	for g, at := range u.start {
		for i := range u.room(g) {
			slot[u.first[g]+i] = int32(row[at+i])
		}
	}
}
