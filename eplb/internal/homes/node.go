package homes

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/exact"
	"github.com/moelb/moelb/eplb/internal/pack"
)

// node places what is on one node on its GPUs.
type node struct {
	s     *pack.Packer
	exact *exact.Search
	first int     // its first slot in the whole unit
	ids   []int32 // the experts on it, as the whole unit numbers them
	spare int     // slots that a GPU of it may leave empty: it has more than experts at home
}

func (d *node) gpus() int { return len(d.s.U.Gpu) }

// take lists the experts with copies on node n and gives its packer their counts and
// loads there; so many without load at most stand for empty slots.
func (lo *Planner) take(n, empty int, copies func(e int32) (count int, load float64)) *pack.Packer {
	d := &lo.nodes[n]
	d.ids = d.ids[:0]
	v, left := d.s, d.s.U.Slots
	v.Best.Level = math.Inf(1)
	v.W, v.Count = v.W[:0], v.Count[:0]
	for _, e := range lo.S.Order {
		if c, load := copies(e); c > 0 {
			d.ids, v.W, v.Count = append(d.ids, e), append(v.W, load), append(v.Count, int32(c))
			left -= c
		}
	}
	for range min(empty, left) {
		d.ids, v.W, v.Count = append(d.ids, -1), append(v.W, 0), append(v.Count, 1)
	}
	m := len(d.ids)
	v.Order, v.Size = v.Order[:m], v.Size[:m]
	v.SortExperts()
	return v
}

// takeHome takes what home brings to node n.
func (lo *Planner) takeHome(n int, home []int32) *pack.Packer {
	return lo.take(n, lo.nodes[n].spare, func(e int32) (int, float64) {
		if int(home[int(e)/lo.per]) != n {
			return 0, 0
		}
		return 1, lo.S.W[e]
	})
}

const (
	// shiftWork bounds the search of a node's counts, in slots packed.
	shiftWork = 1 << 13
	// exactThrift divides the work on a small node: there are many.
	exactThrift = 16
)

// solve places what home brings to node n, as near to bound as it gets, and returns its
// level. Without exhaustive search 16 to 64 experts in 8 groups stand .05% higher.
func (lo *Planner) solve(n int, home []int32, bound, tolerance float64, stop func() bool) float64 {
	v := lo.takeHome(n, home)
	if lo.nodes[n].gpus() == 0 {
		v.Best.Level = 0
		return 0
	}
	goal := bound * (1 + tolerance)
	v.Plan(bound, goal, len(pack.CapLimits), stop)
	if v.Best.Level > goal {
		v.ShiftCounts(goal, shiftWork, stop)
		lo.nodes[n].exact.Improve(bound, exactThrift, stop)
	}
	return v.Best.Level
}

// nodeBound is a lower bound of the level of node n with the groups that the
// branch at hand gives it: its share of the load, and the least that its slots
// allow its hottest experts.
func (lo *Planner) nodeBound(n int, full bool) float64 {
	share := lo.homes.share(n, 0)
	if !full || lo.known == nil {
		return share
	}
	return lo.remember(n, func() float64 { return max(share, bounds.Even(lo.takeHome(n, lo.homes.at))) })
}

// placeNodes places the copies of every node on its GPUs, evened out or not, and keeps
// the whole if it is the best so far.
func (lo *Planner) placeNodes(even bool) {
	lo.S.Cut()
	for n := range lo.nodes {
		v := lo.take(n, math.MaxInt, func(e int32) (int, float64) {
			c := int(*lo.on(e, n))
			return c, lo.S.Size[e] * float64(c)
		})
		if len(v.U.Gpu) == 0 {
			continue
		}
		v.Pack()
		if even {
			v.Swap(lo.aim)
		}
		v.Keep()
	}
	lo.gather()
}

// gather puts the best placements of the nodes together and keeps the whole.
func (lo *Planner) gather() {
	for _, d := range lo.nodes {
		for i, k := range d.s.Best.Slot {
			lo.S.Slot[d.first+i] = d.ids[k]
		}
	}
	lo.keep(lo.S.Slot)
}

// keep keeps a placement if it is the best.
func (lo *Planner) keep(slot []int32) {
	s := lo.S
	copy(s.Slot, slot)
	clear(s.Count)
	for _, e := range slot {
		if e >= 0 {
			s.Count[e]++
		}
	}
	s.Cut()
	s.Keep()
}
