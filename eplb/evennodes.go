package eplb

// Where groups stay on their nodes but for a few replicas, the load of a node can
// only be changed by replicas away from home, and those are few. Steps that look
// at one GPU's overload do not see that, so nodes are evened out first.

// nodeShares are how much of the way from 1 to the target nodes may be off, on
// one path after another.
var nodeShares = [...]float64{.5, .25, 0, .4}

// evenings is how often a path evens the nodes out, each time before it looks at
// GPUs until nothing helps there.
const evenings = 4

// evenNodes brings the nodes' loads near the target by slots that change their
// expert, or replicas away from home that change places, each time what takes
// away most overload of nodes, and of GPUs, for a move. It says whether it changed
// anything.
func (m *mover) evenNodes(stop func() bool) (changed bool) {
	if m.home == nil || m.mostOff == 0 {
		return false
	}
	u := m.u
	nodes := u.node[len(u.gpu)-1] + 1
	power := make([]float64, nodes)
	load := make([]float64, nodes)
	for g, v := range u.speed {
		power[u.node[g]] += v
	}
	delta := make([]float64, nodes)
	over := 0.0
	best, rate := change{a: -1}, 0.0
	try := func(c change) {
		gain := over
		for n, v := range power {
			gain -= max(0, load[n]+delta[n]-m.nodeRoom(v))
		}
		if gain <= 1e-9 {
			return
		}
		if m.rng != nil {
			gain *= 1 - .6*m.rng.Float64()
		}
		if c.b < 0 {
			gain += .5 * m.gainOf(int(m.gpu[c.a]), m.slot[c.a], c.e)
		} else {
			gain += .5 * m.gainOfExchange(c.a, c.b)
		}
		if gain /= max(float64(c.cost), .5); gain > rate {
			best, rate = c, gain
		}
	}
	for range 4 * m.mostOff {
		clear(load)
		for g, l := range m.load {
			load[u.node[g]] += l
		}
		over = 0
		for n, v := range power {
			over += max(0, load[n]-m.nodeRoom(v))
		}
		if over == 0 || stop() {
			break
		}
		best, rate = change{a: -1}, 0
		for i, e := range m.slot {
			if m.offBy(int32(i), 1) == 0 {
				continue
			}
			h := int(m.gpu[i])
			for j, f := range m.slot {
				g := int(m.gpu[j])
				if f < 0 || u.node[g] == u.node[h] || m.holds(g, e) || m.holds(h, f) || !m.mayExchange(int32(i), int32(j)) {
					continue
				}
				clear(delta)
				d := m.size[e] - m.size[f]
				delta[u.node[h]], delta[u.node[g]] = -d, d
				try(change{a: int32(i), b: int32(j), cost: m.cost(h, e, f) + m.cost(g, f, e)})
			}
		}
		for j, f := range m.slot {
			if f >= 0 && !m.mayDrop(int32(j)) {
				continue
			}
			g := int(m.gpu[j])
			for x := range m.w {
				e := int32(x)
				if m.holds(g, e) || !m.may(g, e, f) {
					continue
				}
				m.shift(delta, e, f, g)
				try(change{a: int32(j), b: -1, e: e, cost: m.cost(g, f, e)})
			}
		}
		if best.a < 0 {
			break
		}
		m.apply(best)
		changed = true
	}
	return changed
}

// gainOfExchange is the overload of GPUs that goes when two slots exchange.
func (m *mover) gainOfExchange(i, j int32) float64 {
	h, g := int(m.gpu[i]), int(m.gpu[j])
	d := m.size[m.slot[i]] - m.size[m.slot[j]]
	return m.over(h, m.load[h]) - m.over(h, m.load[h]-d) + m.over(g, m.load[g]) - m.over(g, m.load[g]+d)
}

// nodeRoom is the load that GPUs of a node with so much speed in all may carry.
func (m *mover) nodeRoom(power float64) float64 {
	return (1 + float64(m.nodeShare*(m.T-1))) * power
}

// shift fills delta with what the nodes gain if a slot of GPU g holds e instead
// of f.
func (m *mover) shift(delta []float64, e, f int32, g int) {
	u := m.u
	clear(delta)
	n := float64(m.count[e])
	delta[u.node[g]] = m.w[e] / (n + 1)
	less := m.w[e] / (n * (n + 1))
	for _, s := range m.at[e] {
		delta[u.node[m.gpu[s]]] -= less
	}
	if f < 0 {
		return
	}
	n = float64(m.count[f])
	delta[u.node[g]] -= m.w[f] / (n - 1)
	more := m.w[f] / (n * (n - 1))
	for _, s := range m.at[f] {
		delta[u.node[m.gpu[s]]] += more
	}
}
