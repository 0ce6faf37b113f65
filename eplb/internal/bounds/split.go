package bounds

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// components is a lower bound for any split of tokens over replicas, on GPUs
// of equal speed with S slots each. Call GPUs joined that share an expert, and
// look at all GPUs joined to one that holds one of the h largest experts. Let V
// experts be on them, those h and at best the smallest others:
//
//   - The other experts fill at least (experts-V)/S GPUs, so at most m = GPUs -
//     ceil((experts-V)/S) are left to carry the V.
//   - Joining costs copies: m GPUs in at most h pieces hold at most (S-1)·m + h
//     experts.
//
// Whatever V is, the least load of the V over m is a bound. It holds more than
// the mean only where copies are fewer than it takes to join all GPUs. Cost:
// O(experts²).
func components(s *pack.Packer) float64 {
	u := s.U
	gpus, experts, room := len(u.Gpu), len(s.W), u.Room(0)
	bound, top := 1.0, 0.0
	for h := 1; h <= min(experts-gpus*(room-1), SplitWork/experts); h++ {
		top += s.W[s.Order[h-1]]
		least, sum := math.Inf(1), top
		for v := h; v <= experts; v++ {
			if v > h {
				sum += s.W[s.Order[experts-v+h]]
			}
			m := gpus - (experts-v+room-1)/room
			if m < 1 || v-h > (room-1)*m {
				continue
			}
			least = min(least, sum/float64(m))
		}
		if !math.IsInf(least, 1) {
			bound = max(bound, least*(1-1e-12)) // rounding must not matter
		}
	}
	return bound
}

// companions is a lower bound for any split of tokens over replicas, on GPUs
// of equal speed with S slots each: hot experts cannot have their GPUs to
// themselves. Let T be a level, lambda the load of some small expert, and q the
// number of smaller ones.
//
// Take GPUs joined by shared experts: m of them, with a hot ones. Joining them
// costs copies, so they hold (S-1)·m + 1 experts, or fewer where copies or slots
// are wasted. But for the q smallest, all but the hot carry lambda at least:
//
//	m·(T - (S-1)·lambda) ≥ hot loads - (a-1)·lambda
//
// With n(e) = ceil((load - lambda)/(T - (S-1)·lambda)) for a hot expert, m is at
// least the sum of n - (a-1). Summed over all such sets of GPUs, those without a
// hot expert having one GPU at least, the sum of n(e)-1 over the hot cannot
// exceed the number of copies. Each of the q smallest, each wasted copy gains
// one copy at most while S·lambda ≤ T. Cost: O(q·(experts + copies·log experts)).
func companions(s *pack.Packer) float64 {
	u := s.U
	experts, room := len(s.W), u.Room(0)
	bound := 1.0
	for q := range min(experts, mostSmall) {
		lambda := s.W[s.Order[experts-1-q]]
		copies := u.Slots - experts + q
		hot := append(s.Ranked[:0], s.Order[:min(copies+1, experts)]...)
		for _, e := range hot {
			s.Count[e], s.Size[e] = 1, s.W[e]-lambda
		}
		for range copies {
			e := hot[0]
			s.Count[e]++
			s.Size[e] = (s.W[e] - lambda) / float64(s.Count[e])
			pack.Sink(hot, s.Larger)
		}
		if t := float64(float64(room-1)*lambda) + s.Size[hot[0]]; t >= float64(room)*lambda {
			bound = max(bound, t*(1-1e-12)) // rounding must not matter
		}
	}
	return bound
}

// mostSmall is how many of the smallest experts are set apart in turn.
const mostSmall = 64

// Split is a lower bound for any split.
func Split(s *pack.Packer) float64 {
	if !s.U.Alike() {
		return Replicas(s)
	}
	return max(Replicas(s), components(s), companions(s))
}

// SplitWork bounds the slots times GPUs of a layer that is planned for the split, and
// the work on a bound of it; beyond, the plan is that of an even one.
const SplitWork = 1 << 26
