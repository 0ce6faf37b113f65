package search

import "math"

// Where experts stay at home but for a few replicas, the load of a node can only
// be changed by replicas away from home, and those are few. Steps that look at one
// GPU do not see that, so nodes are evened out first.

// AheadByNodes walks ahead under the norm of the power 2^twice once it has evened the
// nodes out. Without it, plans with 8 replicas off 4 nodes take twice the moves.
func (s *State) AheadByNodes(f *Front, from []int32, twice int, share float64, goal Goal) {
	s.Start(from)
	s.twice, s.over = twice, goal.Time
	f.begin(s)
	for range evenings {
		was := len(f.paths[len(f.paths)-1].steps)
		s.evenNodes(f, share, goal)
		s.ahead(f, goal)
		if s.Time() <= goal.Time || len(f.paths[len(f.paths)-1].steps) == was {
			return
		}
	}
}

// evenings is how often a path evens the nodes out, each time before it looks at
// GPUs until nothing helps there.
const evenings = 4

// evenNodes brings the nodes' levels near the goal, by slots that change their
// expert or replicas away from home that change places, each time by what takes
// away most overload of nodes, and of GPUs, for a move. share is how much of the
// way from 1 to the goal nodes may be off.
func (s *State) evenNodes(f *Front, share float64, goal Goal) {
	t, n := s.t, s.n
	if t.MostOff == 0 {
		return
	}
	nodes := 0
	for _, k := range t.Node {
		nodes = max(nodes, k+1)
	}
	power, load, delta := make([]float64, nodes), make([]float64, nodes*n), make([]float64, nodes*n)
	for g, v := range t.Speed {
		power[t.Node[g]] += v
	}
	room := 1 + float64(share*(goal.Time-1))
	above := func() float64 {
		sum := 0.0
		for i := range load {
			sum += float64(t.Share[i%n] * max(0, load[i]+delta[i]-float64(room*power[i/n])))
		}
		return sum
	}
	for range 4 * t.MostOff {
		s.now = s.weigh()
		clear(load)
		clear(delta)
		for i, l := range s.level {
			g := i / n
			load[t.Node[g]*n+i%n] += float64(l * t.Speed[g])
		}
		over := above()
		if over == 0 || goal.Stop() {
			break
		}
		best, rate := Change{A: -1}, 0.0
		try := func(c Change) {
			gain := over - above()
			if gain <= 1e-9 {
				return
			}
			v, _ := s.after(c, math.Inf(1))
			gain += float64(.5 * (s.now - v))
			if gain /= weight[max(0, s.costOf(c))]; gain > rate {
				best, rate = c, gain
			}
		}
		for i, e := range s.slot {
			h := s.gpu[i]
			if s.offBy(h, e) == 0 {
				continue
			}
			for j, x := range s.slot {
				g := s.gpu[j]
				if x < 0 || t.Node[g] == t.Node[h] || s.holds(g, e) || s.holds(h, x) || !s.mayExchange(int32(i), int32(j)) {
					continue
				}
				clear(delta)
				for k := range n {
					d := s.size[int(e)*n+k] - s.size[int(x)*n+k]
					delta[t.Node[h]*n+k], delta[t.Node[g]*n+k] = -d, d
				}
				try(Change{int32(i), int32(j), -1})
			}
		}
		for j, x := range s.slot {
			if !s.mayDrop(int32(j)) {
				continue
			}
			g := s.gpu[j]
			for i := range s.count {
				if e := int32(i); !s.holds(g, e) && s.mayHold(g, x, e) {
					s.shiftNodes(delta, e, x, g)
					try(Change{int32(j), -1, e})
				}
			}
		}
		if best.A < 0 || s.moves+s.costOf(best) > goal.Moves {
			break
		}
		f.do(s, best)
	}
}

// shiftNodes fills delta with what the nodes gain if a slot of GPU g holds e
// instead of x.
func (s *State) shiftNodes(delta []float64, e, x, g int32) {
	n, node := s.n, s.t.Node
	clear(delta)
	each := func(e int32, by float64) {
		for _, i := range s.at[e] {
			for k, w := range s.size[int(e)*n:][:n] {
				delta[node[s.gpu[i]]*n+k] += float64(w * by)
			}
		}
	}
	c := float64(s.count[e])
	each(e, c/(c+1)-1)
	for k, w := range s.size[int(e)*n:][:n] {
		delta[node[g]*n+k] += float64(w * (c / (c + 1)))
	}
	if x < 0 {
		return
	}
	c = float64(s.count[x])
	each(x, c/(c-1)-1)
	for k, w := range s.size[int(x)*n:][:n] {
		delta[node[g]*n+k] -= float64(w * (c / (c - 1)))
	}
}
