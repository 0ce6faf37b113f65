package bounds

import (
	"github.com/moelb/moelb/eplb/internal/pack"
)

// Replicas is the least level T that lets every expert's replicas fit: each
// needs ceil(load/T) of them at least, one a GPU, and there are only so many
// slots. With speeds T counts on the fastest GPU. It holds for any split of an
// expert's tokens over its replicas. Cost: O(experts + spare·log experts).
func Replicas(s *pack.Packer) float64 {
	if !s.Adams(s.U.Slots, len(s.U.Gpu), nil) {
		return 1
	}
	most := 0.0
	for e, w := range s.W {
		most = max(most, w/float64(s.Count[e]))
	}
	return max(1, most/s.U.Fastest())
}
