package schedule

import "github.com/moelb/moelb/placement"

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
	speed := make([]float64, p.GPUs)
	for g := range speed {
		speed[g] = t.SpeedOf(g)
	}
	for _, g := range append(s.Dead[:len(s.Dead):len(s.Dead)], s.Leaving...) {
		if g < len(speed) {
			speed[g] = 0
		}
	}
	return p, placement.Topology{GPUs: p.GPUs, Speed: speed, NVLink: t.NVLink, RDMA: t.RDMA}, nil
}
