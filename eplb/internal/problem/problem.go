package problem

import "github.com/moelb/moelb/placement"

// Problem is a problem and what is asked of its plan, valid and with its defaults
// filled in: what the parts of planning are told.
type Problem struct {
	Loads    placement.Loads   // of the whole, or the sum of windows
	Windows  []placement.Loads // nil = one
	Previous *placement.Placement
	Topology placement.Topology
	Replicas int
	Groups   int
	Unit     *Unit

	ByGroup   bool
	Off       int // replicas a layer that may live outside their group's node
	TwoNodes  bool
	Split     bool // tokens are split per batch
	Tolerance float64
	Target    float64
	Restarts  int
}

func (p *Problem) Experts() int { return p.Loads.Experts() }
