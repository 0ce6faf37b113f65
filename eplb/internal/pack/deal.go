package pack

import (
	"cmp"
	"slices"
)

// Deal fills the slots whatever the loads, for the rare layer where packing by
// size came to a dead end: experts by count, most first, each on the GPUs with
// most room left, the lightest of them. Rooms differ by at most one here or are
// full of all experts, and then this never fails: the set of rooms left stays
// as even as can be.
func (s *Packer) Deal() {
	u := s.U
	s.Begin()
	slices.SortStableFunc(s.Ranked, func(a, b int32) int { return int(s.Count[b]) - int(s.Count[a]) })
	gpus := make([]int, len(u.Gpu))
	for g := range u.Gpu {
		gpus[g] = g
	}
	for _, e := range s.Ranked {
		slices.SortFunc(gpus, func(a, b int) int {
			return cmp.Or(
				u.First[b+1]-int(s.Used[b])-(u.First[a+1]-int(s.Used[a])),
				cmp.Compare(float64(s.Load[a]*u.Speed[b]), float64(s.Load[b]*u.Speed[a])),
				a-b)
		})
		for _, g := range gpus[:s.Count[e]] {
			s.Put(e, g)
		}
	}
}
