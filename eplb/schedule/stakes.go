package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// forced is how many rounds must be done, whatever they cost.
func (s *Schedule) forced() int { return max(s.Restore, s.Emptied) }

// Forced returns the placement that prev, which the schedule starts from, has
// become once the rounds are done that must be: those that restore experts and
// empty GPUs which leave. It is what the rest is weighed against, at the moment of
// a failure too. It comes with the topology that it is to be scored on: that of
// New without the GPUs that have left.
func (s *Schedule) Forced(prev *placement.Placement, t placement.Topology) (placement.Placement, placement.Topology, error) {
	p, err := s.Apply(prev, s.forced())
	if err != nil {
		return p, t, err
	}
	if s.forced() == 0 && len(s.GPUSlots) > p.GPUs { // GPUs that join are idle until they have something
		p.PhysicalToLogical = reshape(p.PhysicalToLogical, s.Before, s.GPUSlots)
		p.GPUs, p.GPUSlots = len(s.GPUSlots), s.GPUSlots
	}
	on := placement.Topology{GPUs: p.GPUs, Speed: make([]float64, p.GPUs), NVLink: t.NVLink, RDMA: t.RDMA}
	for g := range on.Speed {
		if !slices.Contains(s.Dead, g) && !slices.Contains(s.Leaving, g) {
			on.Speed[g] = t.SpeedOf(g)
		}
	}
	return p, on, nil
}

// Stakes returns k with what is known once a schedule from prev to next is made, at
// the moment of a failure too: Before and After are the imbalance of each layer over
// the windows of loads to come (placement.ImbalanceOver), After that of next, Before
// that of what prev has become once the rounds are done that must be. GPUs that join
// count as idle before, those that leave, or are dead, for nothing. t is that of New.
func (s *Schedule) Stakes(prev, next *placement.Placement, windows []placement.Loads, t placement.Topology, k Stakes) (Stakes, error) {
	forced, on, err := s.Forced(prev, t)
	if err != nil {
		return k, err
	}
	if k.Before, err = forced.ImbalanceOver(windows, on); err != nil {
		return k, err
	}
	k.After, err = next.ImbalanceOver(windows, placement.Topology{GPUs: next.GPUs, Speed: t.Speed[:min(next.GPUs, len(t.Speed))]})
	return k, err
}
