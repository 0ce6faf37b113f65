package eplb

import "math"

// Where there are fewer copies than it takes to join all GPUs, the best plans
// for a split found are clusters: the GPUs of a replicated expert, its hub, and
// besides it only experts that live nowhere else. Inside a cluster the hub's
// tokens fill up whatever the others leave, so a cluster stands at its total
// over its number of GPUs, and is like one large GPU.

// clusters is what planning by clusters needs: a solver whose GPUs are clusters.
type clusters struct {
	s   *solver
	hub []int32 // of each cluster; -1 = one GPU without a replicated expert

	work int64 // clusters times experts, over all packings of the layer
}

// planClusters offers plans made of clusters, from the counts at hand and from
// those that moving copies to the fullest cluster leads to.
func (p *splitPlanner) planClusters(goal float64, stop func() bool) {
	s, u := p.s, p.s.u
	if !u.equal || u.room(0) < 2 {
		return
	}
	for g := range u.gpu {
		if u.room(g) != u.room(0) {
			return
		}
	}
	if p.clusters == nil {
		v := &unit{gpu: make([]int, len(u.gpu)), slots: len(s.w)}
		p.clusters = &clusters{s: newSolver(v, len(s.w))}
	}
	c := p.clusters
	copy(c.s.w, s.w)
	copy(c.s.size, s.w)
	copy(c.s.order, s.order)
	c.work = 0
	level := c.pack(s, goal, true)
	if math.IsInf(level, 1) {
		return
	}
	c.offer(p)
	for level > goal && c.work < splitWork && !stop() {
		// One copy more for the fullest cluster, from whoever can best spare it: for
		// its hub, or for the largest expert that lives nowhere else.
		worst, _ := c.worst()
		first := c.s.u.first[worst]
		gains := [2]int32{c.hub[worst], -1}
		for _, e := range c.s.slot[first : first+2] {
			if e != c.hub[worst] {
				gains[1] = e
				break
			}
		}
		from, to, best := int32(-1), int32(-1), level*(1-1e-9)
		for _, e := range s.order {
			if s.count[e] < 2 {
				continue
			}
			for _, x := range gains {
				if x < 0 || x == e || int(s.count[x]) >= len(u.gpu) {
					continue
				}
				s.count[e]--
				s.count[x]++
				if l := c.pack(s, goal, u.room(0) == 2); l < best {
					from, to, best = e, x, l
				}
				s.count[e]++
				s.count[x]--
			}
		}
		if from < 0 {
			return
		}
		s.count[from]--
		s.count[to]++
		level = c.pack(s, goal, true)
		c.offer(p)
	}
}

// pack makes the clusters that s.count asks for and spreads the other experts
// over them; it returns the level of the fullest, +Inf if the GPUs are too few.
// Exchanges of two experts for two are tried only with pairs: they are dear
// where clusters have many slots.
func (c *clusters) pack(s *solver, goal float64, pairs bool) float64 {
	v, room, left := c.s.u, s.u.room(0), len(s.u.gpu)
	c.hub = c.hub[:0]
	v.speed, v.first = v.speed[:0], append(v.first[:0], 0)
	add := func(hub int32, gpus int) {
		c.hub = append(c.hub, hub)
		v.speed = append(v.speed, float64(gpus))
		slots := room
		if hub >= 0 {
			slots = gpus*(room-1) + 1
		}
		v.first = append(v.first, v.first[len(v.first)-1]+slots)
		left -= gpus
	}
	for _, e := range s.order {
		c.s.count[e] = 1
		if n := int(s.count[e]); n > 1 {
			if n > left {
				return math.Inf(1)
			}
			add(e, n)
		}
	}
	for left > 0 {
		add(-1, 1)
	}
	v.gpu, c.s.load = v.gpu[:len(c.hub)], c.s.load[:len(c.hub)]
	c.work += int64(len(c.hub)) * int64(len(s.w))
	clear(c.s.has)
	for i, e := range c.hub {
		c.s.used[i], c.s.load[i] = int32(v.first[i]), 0
		if e >= 0 {
			c.s.put(e, i)
			c.s.count[e] = 2 // pinned
		}
	}
	for _, e := range s.order {
		if s.count[e] > 1 {
			continue
		}
		best, level := -1, math.Inf(1)
		for i, d := range v.speed {
			if l := (c.s.load[i] + s.w[e]) / d; l < level && int(c.s.used[i]) < v.first[i+1] {
				best, level = i, l
			}
		}
		c.s.put(e, best)
	}
	pin(c.s)
	if pairs {
		c.s.swap(goal)
	} else {
		c.exchange(goal)
	}
	c.s.refresh()
	return c.s.level()
}

// exchange is swap without exchanges of two for two.
func (c *clusters) exchange(goal float64) {
	v := c.s
	for g := range c.hub {
		for i := v.u.first[g]; i < v.u.first[g+1]; i++ {
			v.sz[i] = v.size[v.slot[i]]
		}
		v.settle(g)
	}
	for {
		worst, top := c.worst()
		if top <= goal {
			return
		}
		i, g, j := v.bestSwap(worst, top*(1-1e-12), goal)
		if g < 0 {
			return
		}
		v.exchange(worst, i, g, j)
	}
}

// worst is the fullest cluster and its level.
func (c *clusters) worst() (int, float64) {
	worst, top := 0, 0.0
	for i, d := range c.s.u.speed {
		if l := c.s.load[i] / d; l > top {
			worst, top = i, l
		}
	}
	return worst, top
}

// offer deals the clusters at hand out over the GPUs, those inside a cluster as
// evenly as they go, and offers the plan.
func (c *clusters) offer(p *splitPlanner) {
	s, v, u := p.s, c.s.u, p.s.u
	copy(s.size, s.w)
	at := 0
	for i, hub := range c.hub {
		n := int(v.speed[i])
		for g := at; g < at+n; g++ {
			s.used[g], s.load[g] = int32(u.first[g]), 0
			if hub >= 0 {
				s.size[hub] = s.w[hub] / float64(n)
				s.put(hub, g)
			}
		}
		for _, e := range c.s.slot[v.first[i]:v.first[i+1]] { // the largest first
			if e == hub {
				continue
			}
			best := -1
			for g := at; g < at+n; g++ {
				if int(s.used[g]) < u.first[g+1] && (best < 0 || s.load[g] < s.load[best]) {
					best = g
				}
			}
			s.put(e, best)
		}
		at += n
	}
	p.offer(s.slot, s.count)
}
