package eplb

// replicaBound is the least level T that lets every expert's replicas fit: each
// needs ceil(load/T) of them at least, one a GPU, and there are only so many
// slots. With speeds T counts on the fastest GPU. It holds for any split of an
// expert's tokens over its replicas. Cost: O(experts + spare·log experts).
func replicaBound(s *solver) float64 {
	if !s.adams(s.u.slots, len(s.u.gpu), nil) {
		return 1
	}
	most := 0.0
	for e, w := range s.w {
		most = max(most, w/float64(s.count[e]))
	}
	return max(1, most/s.u.fastest())
}
