package divide

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
)

// Where there are fewer copies than it takes to join all GPUs, the best plans
// for a split found are clusters: the GPUs of a replicated expert, its hub, and
// besides it only experts that live nowhere else. Inside a cluster the hub's
// tokens fill up whatever the others leave, so a cluster stands at its total
// over its number of GPUs, and is like one large GPU. Without them 256 experts on 144
// GPUs of 2 slots stand .7% higher, 14 on 8 of 2 .1%.

// clusters is what planning by clusters needs: a solver whose GPUs are clusters.
type clusters struct {
	s   *pack.Packer
	hub []int32 // of each cluster; -1 = one GPU without a replicated expert

	work int64 // clusters times experts, over all packings of the layer
}

// planClusters offers plans made of clusters, from the counts at hand and from
// those that moving copies to the fullest cluster leads to.
func (p *Planner) planClusters(goal float64, stop func() bool) {
	s, u := p.s, p.s.U
	if !u.Alike() || u.Room(0) < 2 {
		return
	}
	if p.clusters == nil {
		v := &problem.Unit{Gpu: make([]int, len(u.Gpu)), Slots: len(s.W)}
		p.clusters = &clusters{s: pack.New(v, len(s.W))}
	}
	c := p.clusters
	copy(c.s.W, s.W)
	copy(c.s.Size, s.W)
	copy(c.s.Order, s.Order)
	c.work = 0
	level := c.pack(s, goal, true)
	if math.IsInf(level, 1) {
		return
	}
	c.offer(p)
	for level > goal && c.work < bounds.SplitWork && !stop() {
		// One copy more for the fullest cluster's hub, from whoever can best spare it.
		worst, _ := c.s.Fullest()
		hub := c.hub[worst]
		if hub < 0 {
			return
		}
		from, best := int32(-1), level*(1-1e-9)
		s.Count[hub]++
		for _, e := range s.Order {
			if s.Count[e] < 2 || e == hub {
				continue
			}
			s.Count[e]--
			if l := c.pack(s, goal, u.Room(0) == 2); l < best {
				from, best = e, l
			}
			s.Count[e]++
		}
		if from < 0 {
			return
		}
		s.Count[from]--
		level = c.pack(s, goal, true)
		c.offer(p)
	}
}

// pack makes the clusters that s.count asks for and spreads the other experts
// over them; it returns the level of the fullest, +Inf if the GPUs are too few.
// Exchanges of two experts for two are tried only with pairs: they are dear
// where clusters have many slots.
func (c *clusters) pack(s *pack.Packer, goal float64, pairs bool) float64 {
	v, room, left := c.s.U, s.U.Room(0), len(s.U.Gpu)
	c.hub = c.hub[:0]
	v.Speed, v.First = v.Speed[:0], append(v.First[:0], 0)
	add := func(hub int32, gpus int) {
		c.hub = append(c.hub, hub)
		v.Speed = append(v.Speed, float64(gpus))
		slots := room
		if hub >= 0 {
			slots = gpus*(room-1) + 1
		}
		v.First = append(v.First, v.First[len(v.First)-1]+slots)
		left -= gpus
	}
	for _, e := range s.Order {
		c.s.Count[e] = 1
		if n := int(s.Count[e]); n > 1 {
			if n > left {
				return math.Inf(1)
			}
			add(e, n)
		}
	}
	for left > 0 {
		add(-1, 1)
	}
	v.Gpu, c.s.Load = v.Gpu[:len(c.hub)], c.s.Load[:len(c.hub)]
	c.work += int64(len(c.hub)) * int64(len(s.W))
	clear(c.s.Has)
	for i, e := range c.hub {
		c.s.Used[i], c.s.Load[i] = int32(v.First[i]), 0
		if e >= 0 {
			c.s.Put(e, i)
			c.s.Count[e] = 2 // pinned
		}
	}
	for _, e := range s.Order {
		if s.Count[e] > 1 {
			continue
		}
		best, level := -1, math.Inf(1)
		for i, d := range v.Speed {
			if l := (c.s.Load[i] + s.W[e]) / d; l < level && int(c.s.Used[i]) < v.First[i+1] {
				best, level = i, l
			}
		}
		c.s.Put(e, best)
	}
	pin(c.s)
	c.s.Swap(goal, pairs)
	c.s.Refresh()
	_, level := c.s.Fullest()
	return level
}

// offer deals the clusters at hand out over the GPUs, those inside a cluster as
// evenly as they go, and offers the plan.
func (c *clusters) offer(p *Planner) {
	s, v, u := p.s, c.s.U, p.s.U
	copy(s.Size, s.W)
	at := 0
	for i, hub := range c.hub {
		n := int(v.Speed[i])
		for g := at; g < at+n; g++ {
			s.Used[g], s.Load[g] = int32(u.First[g]), 0
			if hub >= 0 {
				s.Size[hub] = s.W[hub] / float64(n)
				s.Put(hub, g)
			}
		}
		for _, e := range c.s.Slot[v.First[i]:v.First[i+1]] { // the largest first
			if e == hub {
				continue
			}
			best := -1
			for g := at; g < at+n; g++ {
				if int(s.Used[g]) < u.First[g+1] && (best < 0 || s.Load[g] < s.Load[best]) {
					best = g
				}
			}
			s.Put(e, best)
		}
		at += n
	}
	p.offer(s.Slot, s.Count)
}
