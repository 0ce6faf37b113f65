package homes

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/pack"
)

// node places what is on one node on its GPUs.
type node struct {
	s      *pack.Packer
	lo, hi int     // its GPUs in the whole unit
	ids    []int32 // the experts on it, as the whole unit numbers them
	spare  int     // slots that a GPU of it may leave empty: it has more than experts at home
}

// shiftWork bounds the search of a node's counts, in slots packed.
const shiftWork = 1 << 13

// take lists the experts that home brings to node n and gives its packer their loads.
func (lo *Planner) take(n int, home []int32) {
	d := &lo.nodes[n]
	d.ids = d.ids[:0]
	for _, e := range lo.S.Order {
		if int(home[int(e)/lo.per]) == n {
			d.ids = append(d.ids, e)
		}
	}
	v := d.ready(min(d.spare, max(0, d.s.U.Slots-len(d.ids))))
	for i, e := range d.ids { // they are sorted
		v.Order[i] = int32(i)
		if v.W[i] = 0; e >= 0 {
			v.W[i] = lo.S.W[e]
		}
	}
}

// ready is the node's packer with room for its experts, and so many without load that
// stand for empty slots.
func (d *node) ready(empty int) *pack.Packer {
	for range empty {
		d.ids = append(d.ids, -1)
	}
	v, m := d.s, len(d.ids)
	v.W, v.Order, v.Count, v.Size = v.W[:m], v.Order[:m], v.Count[:m], v.Size[:m]
	v.Best.Level = math.Inf(1)
	return v
}

// solve places what was taken on node n and returns its level, as near to bound as it
// gets.
func (lo *Planner) solve(n int, bound, tolerance float64, stop func() bool) float64 {
	v := lo.nodes[n].s
	if len(v.U.Gpu) == 0 {
		v.Best.Level = 0
		return 0
	}
	goal := bound * (1 + tolerance)
	v.Plan(bound, goal, len(pack.CapLimits), stop)
	if v.Best.Level > goal {
		v.ShiftCounts(goal, shiftWork, stop)
	}
	return v.Best.Level
}

// nodeBound is a lower bound of the level of node n with the groups that the
// branch at hand gives it: its share of the load, and the least that its slots
// allow its hottest experts.
func (lo *Planner) nodeBound(n int, mask uint32) float64 {
	if lo.bound == nil {
		return lo.homes.share(n, lo.homes.sum[n])
	}
	i := lo.memo(n, mask)
	if lo.state[i]&^1 != lo.stamp {
		lo.state[i] = lo.stamp
		lo.take(n, lo.homes.at)
		lo.bound[i] = max(lo.homes.share(n, lo.homes.sum[n]), bounds.Replicas(lo.nodes[n].s))
	}
	return lo.bound[i]
}

// placeNodes places the copies of every node on its GPUs, evened out or not, and keeps
// the whole if it is the best so far.
func (lo *Planner) placeNodes(even bool) {
	nodes := len(lo.nodes)
	lo.S.Cut()
	for n := range lo.nodes {
		d := &lo.nodes[n]
		d.ids = d.ids[:0]
		empty := d.s.U.Slots
		for _, e := range lo.S.Order {
			if c := lo.copies[int(e)*nodes+n]; c > 0 {
				d.ids = append(d.ids, e)
				empty -= int(c)
			}
		}
		v := d.ready(empty)
		for i, e := range d.ids {
			if v.W[i], v.Count[i] = 0, 1; e >= 0 {
				c := lo.copies[int(e)*nodes+n]
				v.W[i], v.Count[i] = lo.S.Size[e]*float64(c), int32(c)
			}
		}
		v.SortExperts()
		if len(v.U.Gpu) == 0 {
			continue
		}
		if !v.Pack() {
			v.Deal()
		}
		if even {
			v.Swap(lo.aim, true)
		}
		v.Keep()
	}
	lo.gather()
}

// gather puts the best placements of the nodes together and keeps the whole.
func (lo *Planner) gather() {
	s := lo.S
	clear(s.Count)
	for n := range lo.nodes {
		d := &lo.nodes[n]
		to := s.Slot[s.U.First[d.lo]:s.U.First[d.hi]]
		for i, k := range d.s.Best.Slot {
			if to[i] = d.ids[k]; to[i] >= 0 {
				s.Count[to[i]]++
			}
		}
	}
	lo.keepWhole()
}

// keepWhole keeps the placement at hand with its homes if it is the best.
func (lo *Planner) keepWhole() {
	s := lo.S
	s.Cut()
	level := s.Best.Level
	if s.Keep(); s.Best.Level < level {
		copy(lo.bestHome, lo.Home)
	}
}
