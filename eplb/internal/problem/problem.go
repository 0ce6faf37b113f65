package problem

import "github.com/moelb/moelb/placement"

// Problem is a problem and what is asked of its plan, valid and with its defaults
// filled in: what the parts of planning are told.
type Problem struct {
	Loads    placement.Loads   // the sum of windows
	Windows  []placement.Loads // one at least
	Previous *placement.Placement
	Topology placement.Topology
	Replicas int
	Groups   int
	// Bare are experts that are in no group: the others, which are consecutive, are
	// shared by the groups. nil = none are.
	Bare []bool
	Unit *Unit

	ByGroup   bool
	Off       int // replicas a layer that may live outside their group's node
	TwoNodes  bool
	Split     bool // tokens are split per batch
	Tolerance float64
	Target    float64
	Restarts  int
}

func (p *Problem) Experts() int { return p.Loads.Experts() }

// GroupOf is the group of each expert; -1 = none.
func (p *Problem) GroupOf() []int {
	of, members, k := make([]int, p.Experts()), p.Experts(), 0
	for _, bare := range p.Bare {
		if bare {
			members--
		}
	}
	for e := range of {
		if of[e] = -1; p.Bare == nil || !p.Bare[e] {
			of[e] = k * p.Groups / members
			k++
		}
	}
	return of
}
