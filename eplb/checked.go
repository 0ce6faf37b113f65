package eplb

import "github.com/moelb/moelb/placement"

// checked is a problem and what is asked of its plan, valid and with its defaults
// filled in: what the parts of planning are told.
type checked struct {
	loads    placement.Loads   // of the whole, or the sum of windows
	windows  []placement.Loads // nil = one
	previous *placement.Placement
	topology placement.Topology
	replicas int
	groups   int
	unit     *unit

	byGroup   bool
	off       int // replicas a layer that may live outside their group's node
	twoNodes  bool
	split     bool // tokens are split per batch
	tolerance float64
	target    float64
	restarts  int
}

func (p *checked) experts() int { return p.loads.Experts() }
