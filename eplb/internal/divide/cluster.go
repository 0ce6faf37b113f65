package divide

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
)

// planClusters offers a plan made of clusters. Where there are fewer copies than it
// takes to join all GPUs, the best plans for a split found are those: the GPUs of a
// replicated expert, its hub, and besides it only experts that live nowhere else. Inside
// a cluster the hub's tokens fill up whatever the others leave, so a cluster stands at
// its total over its number of GPUs, and is packed like one large GPU. Without them 256
// experts on 144 GPUs of 2 slots stand .7% higher, 14 on 8 of 2 .1%.
func (p *Planner) planClusters(goal float64) {
	s, u := p.s, p.s.U
	room, left := u.Room(0), len(u.Gpu)
	if !u.Alike() || room < 2 {
		return
	}
	var hubs []int32 // of each cluster; -1 = one GPU without a replicated expert
	v := &problem.Unit{First: []int{0}, Slots: len(s.W)}
	add := func(hub int32, gpus, slots int) {
		hubs, left = append(hubs, hub), left-gpus
		v.Gpu, v.Speed = append(v.Gpu, 0), append(v.Speed, float64(gpus))
		v.First = append(v.First, v.First[len(v.First)-1]+slots)
	}
	copy(s.Count, s.Best.Count)
	for _, e := range s.Order {
		if n := int(s.Count[e]); n > 1 {
			add(e, n, n*(room-1)+1)
		}
	}
	if left < 0 {
		return
	}
	for left > 0 {
		add(-1, 1, room)
	}
	c := pack.New(v, len(s.W))
	copy(c.W, s.W)
	for e := range c.Count {
		c.Count[e] = 1
	}
	c.Begin()
	for i, e := range hubs {
		if e >= 0 {
			c.Put(e, i)
			c.Count[e] = 2 // pinned
		}
	}
	for _, e := range s.Order {
		if s.Count[e] == 1 {
			c.Put(e, lightest(c, e, 0, len(hubs)))
		}
	}
	pin(c)
	c.Swap(goal)
	// Inside a cluster experts are dealt out as evenly as they go, the largest first.
	s.Begin()
	at := 0
	for i, hub := range hubs {
		end := at + int(v.Speed[i])
		for g := at; hub >= 0 && g < end; g++ {
			s.Put(hub, g)
		}
		for _, e := range c.Slot[v.First[i]:v.First[i+1]] {
			if e != hub {
				s.Put(e, lightest(s, e, at, end))
			}
		}
		at = end
	}
	p.offer(s.Slot, s.Count)
}

// lightest is the GPU, of those from one to another, that has room and is lightest with
// a replica of e.
func lightest(s *pack.Packer, e int32, from, to int) int {
	best, level := -1, math.Inf(1)
	for g := from; g < to; g++ {
		if l := (s.Load[g] + s.Size[e]) / s.U.Speed[g]; l < level && int(s.Used[g]) < s.U.First[g+1] {
			best, level = g, l
		}
	}
	return best
}
