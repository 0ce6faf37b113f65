package bounds

import (
	"cmp"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// Speeds is a lower bound for GPUs of unequal speed whose slots are all
// filled and whose experts' loads are split evenly over their replicas. Let T be
// the level of a placement, G the number of GPUs and v_1 ≥ v_2 ≥ … their speeds.
//
// The hot experts: of the n GPUs of an expert of load w the slowest has at most
// the speed v_n, so w/n ≤ T·v_n. The least n with w ≤ T·max{k·v_k: k ≤ n} is
// thus needed, and the experts' needs fit the slots. speedBound bisects for the
// least such T.
//
// The slow GPUs: see slowBound.
//
// It returns bound if that is higher. Cost: O(experts·log GPUs) some 30 times,
// and slowBound for each speed.
func Speeds(s *pack.Packer, bound float64) float64 {
	u := s.U
	if u.Equal {
		return bound
	}
	gpus := len(u.Gpu)
	slowest := make([]int, gpus)
	for g := range slowest {
		slowest[g] = g
	}
	slices.SortStableFunc(slowest, func(a, b int) int { return cmp.Compare(u.Speed[a], u.Speed[b]) })
	reach := make([]float64, gpus) // reach[n-1] = max{k·v_k: k ≤ n}
	most := 0.0
	for n := range reach {
		most = max(most, float64(n+1)*u.Speed[slowest[gpus-1-n]])
		reach[n] = most
	}
	fits := func(T float64) bool {
		need := 0
		for _, w := range s.W {
			n, _ := slices.BinarySearch(reach, w/T*(1-1e-12))
			if need += n + 1; n == gpus || need > u.Slots {
				return false
			}
		}
		return true
	}
	lo, hi := bound, bound
	for !fits(hi) {
		lo, hi = hi, 2*hi
	}
	for lo < hi*(1-1e-7) {
		if mid := lo + (hi-lo)/2; fits(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	bound = lo
	slots, speed := 0, 0.0
	tried := 0
	for i, g := range slowest[:gpus-1] {
		slots += u.Room(g)
		speed += u.Speed[g]
		if u.Speed[slowest[i+1]] > u.Speed[g] && slots > 0 && tried < 16 {
			tried++
			bound = max(bound, slowBound(s, i+1, slots)/speed)
		}
	}
	return bound
}

// slowBound is a lower bound on the load of some GPUs that have so many slots
// among them, and are full. Let an expert of load w have n replicas, c of them
// there: c ≤ min(n, gpus). The load there is the sum of c·w/n, while the c add up
// to slots and the n-1 to the spare slots of the layer. With any price p of a
// slot there and any price q ≥ 0 of a copy, the load there is therefore at least
//
//	p·slots - q·spare + sum over experts of min{q·(n-1) + c·(w/n - p)}
//
// The minimum over c is at 0 or min(n, gpus); that over n, up to gpus copies, is
// at one of the ends, and beyond near √(gpus·w/q). The prices are climbed to.
func slowBound(s *pack.Packer, gpus, slots int) float64 {
	spare := s.U.Slots - len(s.W)
	most := min(len(s.U.Gpu), spare+1)
	m := float64(min(gpus, most))
	load := func(p, q float64) float64 {
		sum := p*float64(slots) - q*float64(spare)
		for _, w := range s.W {
			x := min(0, w-p, float64(q*(m-1))+(w-float64(m*p)))
			if most > gpus {
				// The cost is convex in n: its least whole value is beside n.
				n := min(max(math.Floor(math.Sqrt(float64(gpus)*w/q)), m), float64(most))
				x = min(x, float64(q*(n-1))+float64(m*(w/n-p)))
				n = min(n+1, float64(most))
				x = min(x, float64(q*(n-1))+float64(m*(w/n-p)))
			}
			sum += x
		}
		return sum
	}
	p := s.W[s.Order[max(len(s.W)-slots, 0)]]
	if p == 0 {
		return 0
	}
	_, _, best := climb(p, p, load)
	return best - 1e-9*math.Abs(best) // a margin far above rounding
}
