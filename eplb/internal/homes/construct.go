package homes

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// construct makes copies anew for lo.task.Home: of every expert above limit as few as
// bring each to limit, of the others one; from nodes with more than level, or than
// their slots, the largest are sent to those with most room, at most may in all; what
// slots are left go to the others on each node as Adams' counts would have it.
// It says whether that fits. Cost: O(experts·nodes).
func (lo *Planner) construct(limit, level float64, may int) bool {
	s := lo.S
	clear(lo.copies)
	clear(lo.slots)
	clear(lo.sum)
	lo.exports = lo.exports[:0]
	for _, e := range s.Order {
		n := int(lo.task.Home[e])
		k := pack.CeilDiv(s.W[e], limit)
		if k > len(s.U.Gpu) {
			return false
		}
		s.Count[e], s.Size[e] = int32(k), s.W[e]/float64(k)
		for i := range k {
			if i < lo.nodes[n].gpus() {
				lo.put(e, n, 1)
			} else {
				lo.exports = append(lo.exports, e)
			}
		}
	}
	for n := range lo.nodes {
		for len(lo.exports) < may && (lo.slots[n] > lo.nodes[n].s.U.Slots || lo.over(n, level) > 0) {
			e := lo.leaver(n, lo.over(n, level))
			if e < 0 {
				break
			}
			lo.put(e, n, -1)
			lo.exports = append(lo.exports, e)
		}
	}
	return len(lo.exports) <= may && lo.takeIn() && lo.fillNodes(limit)
}

// put brings so many copies of e to node n.
func (lo *Planner) put(e int32, n, copies int) {
	*lo.on(e, n) += int16(copies)
	lo.slots[n] += copies
	lo.sum[n] += float64(float64(copies) * lo.S.Size[e])
}

// on is how many copies of e are on node n.
func (lo *Planner) on(e int32, n int) *int16 { return &lo.copies[int(e)*len(lo.nodes)+n] }

// over is what node n carries above a level.
func (lo *Planner) over(n int, level float64) float64 {
	return lo.sum[n] - float64(level*lo.homes.power[n])
}

// leaver is the expert with the smallest copy on node n that makes up for over, or the
// largest; -1 = there is none.
func (lo *Planner) leaver(n int, over float64) int32 {
	best, size := int32(-1), lo.S.Size
	for _, e := range lo.S.Order {
		if x := size[e]; *lo.on(e, n) > 0 && (best < 0 || x >= over && x < size[best] || x > size[best] && size[best] < over) {
			best = e
		}
	}
	return best
}

// takeIn finds a node for every copy that left its own, the largest first, and says
// whether all nodes have the slots.
func (lo *Planner) takeIn() bool {
	slices.SortStableFunc(lo.exports, func(a, b int32) int { return cmp.Compare(lo.S.Size[b], lo.S.Size[a]) })
	for _, e := range lo.exports {
		best := -1
		for n := range lo.nodes {
			d := &lo.nodes[n]
			if n != int(lo.task.Home[e]) && lo.slots[n] < d.s.U.Slots && int(*lo.on(e, n)) < d.gpus() && (best < 0 || lo.over(n, 1) < lo.over(best, 1)) {
				best = n
			}
		}
		if best < 0 {
			return false
		}
		lo.put(e, best, 1)
	}
	return true
}

// fillNodes gives the slots that are left to the experts of at most limit at home there
// whose replicas are largest, but for those that may be empty if there are no such
// experts, and says whether no node has too many or too few.
func (lo *Planner) fillNodes(limit float64) bool {
	s := lo.S
	for n := range lo.nodes {
		d := &lo.nodes[n]
		for lo.slots[n] < d.s.U.Slots {
			best := int32(-1)
			for _, e := range s.Order {
				c := int(*lo.on(e, n))
				if c > 0 && c < d.gpus() && s.W[e] <= limit && int(lo.task.Home[e]) == n && (best < 0 || s.Size[e] > s.Size[best]) {
					best = e
				}
			}
			if best < 0 {
				break
			}
			s.Count[best]++
			s.Size[best] = s.W[best] / float64(s.Count[best])
			lo.put(best, n, 1)
		}
		if left := d.s.U.Slots - lo.slots[n]; left < 0 || left > d.spare*d.gpus() {
			return false
		}
	}
	return true
}
