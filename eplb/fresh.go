package eplb

import (
	"context"
	"math/bits"
	"slices"
)

// fresh is the plan of a layer from scratch, made when it is asked for: what the
// moves may aim at, and what is taken where they lead nowhere.
type fresh struct {
	p     *Problem
	o     *Options
	ctx   context.Context
	l     int
	s     *solver
	local *locality // nil = groups need not stay together
	two   *apart    // of plans with every expert on two nodes; nil = need not be
	j     *windows  // nil = there is one window
	made  bool
	r     Result // of local
	slot  []int32
	level float64
	bound float64
}

func newFresh(p *Problem, o *Options, u *unit) *fresh {
	even := *o
	even.Dispatch = Even // moves make the even split even
	f := &fresh{p: p, o: &even, s: newSolver(u, p.Loads.Experts()), slot: make([]int32, u.slots)}
	f.s.thrift = max(1, len(p.Loads)/manyLayers)
	f.j = newWindows(p, &even, u)
	if o.TwoNodes {
		f.s.least = 2
		f.two = newApart(u, p.Loads.Experts())
	}
	if o.Locality == ByGroup {
		f.local = newLocality(p, &even)
		f.r = newResult(p, o)
	}
	return f
}

// setLayer turns to layer l.
func (f *fresh) setLayer(ctx context.Context, l int, r *Result) {
	f.ctx, f.l, f.made = ctx, l, false
	if f.s.setLoads(f.p.Loads[l]); f.s.idle {
		f.bound = 1
		return
	}
	f.bound = f.s.replicaBound()
	if f.local != nil {
		f.make()
		r.Locality.FreeImbalance[l] = f.r.Locality.FreeImbalance[l]
	}
}

// make plans the layer.
func (f *fresh) make() {
	if f.made {
		return
	}
	f.made = true
	s := f.s
	stop := func() bool { return f.ctx.Err() != nil }
	if f.two != nil {
		f.bound = max(f.bound, s.searchTwoNodes(f.two, max(f.o.Tolerance, 0), stop))
	} else {
		tolerance := f.o.Tolerance
		if f.j != nil {
			tolerance = f.j.sumTolerance(f.l, f.o)
		}
		f.bound = max(f.bound, s.search(tolerance, stop))
	}
	if f.local == nil {
		if f.j != nil {
			f.bound = s.planWindows(f.j, f.l, f.bound, max(f.o.Tolerance, 0), f.two == nil, stop)
		}
		copy(f.slot, s.best.slot)
		f.level = s.best.level
		return
	}
	f.local.planByGroup(f.ctx, f.p, f.o, f.l, &f.r, s, f.bound)
	f.level, f.bound = f.r.Layers[f.l].Imbalance, f.r.Layers[f.l].LowerBound
	if f.j != nil {
		f.j.setLoads(f.l)
		f.j.byGroup(f.o, f.l, &f.r, s, stop)
	}
	for g, at := range s.u.start {
		for i := range s.u.room(g) {
			f.slot[s.u.first[g]+i] = int32(f.r.Placement.PhysicalToLogical[f.l][at+i])
		}
	}
	if f.j != nil {
		f.j.s.Set(&f.j.task)
		f.j.s.Start(f.slot)
		f.level = f.j.s.Time()
	}
}

// adopt takes a plan from scratch, its GPUs renamed so that as few experts as may
// be must move: GPUs alike may change places, within their node where groups
// stay together, and nodes alike too.
func (m *mover) adopt(f *fresh) []int32 {
	u, words := m.u, m.task.Words()
	n := len(u.gpu)
	slot := slices.Clone(f.slot)
	sets := make([]uint64, n*words)
	for q := range n {
		for _, e := range f.slot[u.first[q]:u.first[q+1]] {
			if e >= 0 {
				sets[q*words+int(e>>6)] |= 1 << (e & 63)
			}
		}
	}
	kept := func(old, q int) int32 {
		k := 0
		for i := range words {
			k += bits.OnesCount64(m.task.Had[old*words+i] & sets[q*words+i])
		}
		return int32(k)
	}
	alike := u.equal && n <= 512
	for q := range n {
		alike = alike && u.room(q) == u.room(0)
	}
	// Blocks of GPUs that change places as a whole, and within.
	block := n
	if m.task.Home != nil || m.task.Domain != nil {
		block = 0
		for block < n && u.node[block] == u.node[0] {
			block++
		}
		for q := range n {
			alike = alike && n%block == 0 && u.node[q] == u.node[q-q%block]
			alike = alike && (q == 0 || q%block != 0 || u.node[q] != u.node[q-1])
		}
	}
	if alike {
		blocks := n / block
		within := make([][]int, blocks*blocks)
		cost := make([]int32, blocks*blocks)
		inner := make([]int32, block*block)
		for a := range blocks {
			for b := range blocks {
				for i := range block {
					for j := range block {
						inner[i*block+j] = -kept(a*block+i, b*block+j)
					}
				}
				within[a*blocks+b] = assign(inner, block)
				for i, j := range within[a*blocks+b] {
					cost[a*blocks+b] += inner[i*block+j]
				}
			}
		}
		for a, b := range assign(cost, blocks) {
			for i, j := range within[a*blocks+b] {
				old, q := a*block+i, b*block+j
				copy(slot[u.first[old]:u.first[old+1]], f.slot[u.first[q]:u.first[q+1]])
			}
		}
	}
	return slot
}
