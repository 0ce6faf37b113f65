// Package traffic places experts where their tokens are: so that the replicas of
// experts that tokens choose together are on one node, and so that what every GPU
// sends to its nearest replicas comes out even.
package traffic

// Unit is the GPUs in service.
type Unit struct {
	First []int     // GPU g has the slots [First[g], First[g+1])
	Node  []int     // of each GPU, ascending
	Speed []float64 // of each GPU, with a mean of 1
	Nodes int       // nodes are numbered below it

	perNode []int
	slots   []int
}

// NewUnit completes a unit.
func NewUnit(first, node []int, speed []float64, nodes int) *Unit {
	u := &Unit{First: first, Node: node, Speed: speed, Nodes: nodes, perNode: make([]int, nodes)}
	for _, n := range node {
		u.perNode[n]++
	}
	u.slots = make([]int, nodes+1)
	for g, n := range node {
		u.slots[n+1] = first[g+1]
	}
	return u
}

// Slots is how many slots the GPUs have.
func (u *Unit) Slots() int { return u.First[len(u.First)-1] }

// Levels returns the load/speed of the fullest GPU in each window of a placement.
func Levels(u *Unit, y *Layer, slot []int32) []float64 {
	bare := Layer{Loads: y.Loads, Weight: y.Weight, Rule: y.Rule, Even: make([]float64, len(y.Loads))}
	s := newState(u, &bare, slot)
	top := make([]float64, len(y.Loads))
	for g, v := range u.Speed {
		for k := range top {
			top[k] = max(top[k], s.load[g*s.windows+k]/v)
		}
	}
	return top
}
