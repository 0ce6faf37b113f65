package homes

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// construct makes copies anew for lo.home and the aim: of every expert above
// limit as few as bring each to limit, of the others one; from nodes with too
// much the largest are sent to those with most room, at most may in all; what
// slots are left go to the others on each node as Adams' counts would have it.
// It says whether that fits. Cost: O(experts·nodes).
func (lo *Planner) construct(limit float64, may int) bool {
	return lo.atHome(limit, may) && lo.sendAway(may) && lo.takeIn() && lo.fillNodes()
}

// atHome gives every expert its copies, those at home that its node has GPUs for,
// and says whether no more than may are left over.
func (lo *Planner) atHome(limit float64, may int) bool {
	s := lo.S
	nodes := len(lo.nodes)
	clear(lo.copies)
	clear(lo.slots)
	clear(lo.sum)
	clear(lo.frozen)
	lo.exports = lo.exports[:0]
	for _, e := range s.Order {
		n := int(lo.homeAt[e])
		k := 1
		if s.W[e] > limit {
			k = pack.CeilDiv(s.W[e], limit)
			lo.frozen[e] = true
		}
		if k > len(s.U.Gpu) {
			return false
		}
		s.Count[e] = int32(k)
		s.Size[e] = s.W[e] / float64(k)
		at := min(k, lo.nodes[n].hi-lo.nodes[n].lo)
		lo.copies[int(e)*nodes+n] = int16(at)
		lo.slots[n] += at
		lo.sum[n] += float64(float64(at) * s.Size[e])
		for range k - at {
			lo.exports = append(lo.exports, e)
		}
	}
	return len(lo.exports) <= may
}

// sendAway takes from nodes with too much what has to leave them, at most may
// copies in all, and says whether what stays has room. Where no more may than must,
// load is no reason.
func (lo *Planner) sendAway(may int) bool {
	s, nodes := lo.S, len(lo.nodes)
	for n := range lo.nodes {
		d := &lo.nodes[n]
		for {
			over := lo.sum[n] - float64(lo.aim*lo.homes.power[n])
			if ((over <= 0 || may <= lo.must) && lo.slots[n] <= d.s.U.Slots) || len(lo.exports) >= may {
				break
			}
			// The smallest that suffices, or the largest.
			best := int32(-1)
			for _, e := range s.Order {
				if lo.copies[int(e)*nodes+n] == 0 {
					continue
				}
				x := s.Size[e]
				if best < 0 || (x >= over && x < s.Size[best]) || (x > s.Size[best] && s.Size[best] < over) {
					best = e
				}
			}
			if best < 0 {
				break
			}
			lo.copies[int(best)*nodes+n]--
			lo.slots[n]--
			lo.sum[n] -= s.Size[best]
			lo.exports = append(lo.exports, best)
		}
		if lo.slots[n] > d.s.U.Slots {
			return false
		}
	}
	return true
}

// takeIn finds a node for every copy that left its own, the largest first.
func (lo *Planner) takeIn() bool {
	s, nodes := lo.S, len(lo.nodes)
	slices.SortStableFunc(lo.exports, func(a, b int32) int { return cmp.Compare(s.Size[b], s.Size[a]) })
	for _, e := range lo.exports {
		best, most := -1, 0.0
		for n := range lo.nodes {
			d := &lo.nodes[n]
			if n == int(lo.homeAt[e]) || lo.slots[n] >= d.s.U.Slots || int(lo.copies[int(e)*nodes+n]) >= d.hi-d.lo {
				continue
			}
			if x := float64(lo.aim*lo.homes.power[n]) - lo.sum[n]; best < 0 || x > most {
				best, most = n, x
			}
		}
		if best < 0 {
			return false
		}
		lo.copies[int(e)*nodes+best]++
		lo.slots[best]++
		lo.sum[best] += s.Size[e]
	}
	return true
}

// fillNodes gives the slots that are left to the experts at home there whose
// replicas are largest, but for those that may be empty if there are no such experts.
func (lo *Planner) fillNodes() bool {
	s, nodes := lo.S, len(lo.nodes)
	for n := range lo.nodes {
		d := &lo.nodes[n]
		for ; lo.slots[n] < d.s.U.Slots; lo.slots[n]++ {
			best := int32(-1)
			for _, e := range s.Order {
				if lo.frozen[e] || int(lo.homeAt[e]) != n || int(lo.copies[int(e)*nodes+n]) >= d.hi-d.lo {
					continue
				}
				if lo.copies[int(e)*nodes+n] == 0 {
					continue
				}
				if best < 0 || s.Size[e] > s.Size[best] {
					best = e
				}
				if s.Count[e] == 1 {
					break // the rest is smaller
				}
			}
			if best < 0 {
				if d.s.U.Slots-lo.slots[n] > d.spare*(d.hi-d.lo) {
					return false
				}
				break
			}
			lo.copies[int(best)*nodes+n]++
			s.Count[best]++
			s.Size[best] = s.W[best] / float64(s.Count[best])
		}
	}
	return true
}
