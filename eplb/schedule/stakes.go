package schedule

import "github.com/moelb/moelb/placement"

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
	on = placement.Topology{GPUs: next.GPUs, Speed: make([]float64, next.GPUs)}
	for g := range on.Speed {
		on.Speed[g] = t.SpeedOf(g)
	}
	k.After, err = next.ImbalanceOver(windows, on)
	return k, err
}
