package traffic

import "slices"

// Layer is what is to be placed, and what a placement of it must keep.
type Layer struct {
	// Loads of the experts, [windows][experts], scaled so that the mean
	// load/speed of the GPUs is 1 in each.
	Loads [][]float64
	// Weight of each window; they add up to 1.
	Weight []float64
	// Even is the load/speed up to which a GPU counts as even, and Most what none
	// may be above, [windows].
	Even, Most []float64
	Rule       Rule
	Tokens     *Tokens // whose visits count; nil = none's do
	// PerExpert counts, in place of the nodes that tokens visit, their experts that
	// have no replica on the node a token comes from; tokens come evenly from all GPUs.
	PerExpert bool
	// GPUPrice is what a token's pair of experts on one GPU is worth in nodes a token.
	GPUPrice float64
	// RiskPrice is what the sum over GPUs of the relative variance of their loads,
	// over other tokens of the same kinds, may cost in nodes a token.
	RiskPrice float64
	// Apart is a block of each GPU, such as its node: every expert must stay in two
	// blocks; nil = it need not.
	Apart []int
	Fixed []bool // of each expert: its replicas stay; nil = none's do
	// Home is the node of each expert, -1 = any, and Off how many replicas may be
	// elsewhere; nil = any may be anywhere.
	Home []int32
	Off  int
	// Was is what the slots hold in the placement in force; nil = there is none,
	// or moves are free. No more than Moves slots may come to hold an expert that
	// was not on their GPU, and each must save MovePrice nodes a token.
	Was       []int32
	Moves     int
	MovePrice float64
}

// state is a placement of a layer that changes slot by slot.
type state struct {
	u       *Unit
	y       *Layer
	windows int
	words   int // of a set of experts

	slot []int32   // expert in each slot; -1 = empty, which it stays
	gpu  []int32   // of each slot
	at   [][]int32 // GPUs of each expert, ascending
	on   []uint64  // nodes of each expert
	has  []uint64  // set of experts of each GPU
	was  []uint64  // the same in the placement in force

	load  []float64 // [GPUs][windows]
	over  float64   // load/speed above even, summed over GPUs, mean of the windows by weight
	moves int
	off   int // replicas away from home

	tokens *visited

	// The change at hand: one or two experts whose replicas come to be elsewhere.
	change  [2]recast
	share   []float64
	delta   []float64 // [GPUs][windows]
	touched []int32
	stamp   []int32
	now     int32
}

// recast is an expert and where its replicas come to be.
type recast struct {
	e  int32
	at []int32
	on uint64
}

func newState(u *Unit, y *Layer, slot []int32) *state {
	experts, gpus := len(y.Loads[0]), len(u.Node)
	s := &state{u: u, y: y, windows: len(y.Loads), words: (experts + 63) / 64}
	s.slot = slices.Clone(slot)
	s.gpu = make([]int32, u.Slots())
	for g := range gpus {
		for i := u.First[g]; i < u.First[g+1]; i++ {
			s.gpu[i] = int32(g)
		}
	}
	s.at = make([][]int32, experts)
	s.on = make([]uint64, experts)
	s.has = make([]uint64, gpus*s.words)
	s.was = make([]uint64, gpus*s.words)
	s.load = make([]float64, gpus*s.windows)
	s.delta = make([]float64, gpus*s.windows)
	s.stamp = make([]int32, gpus)
	s.share = make([]float64, gpus)
	for i, e := range y.Was {
		if e >= 0 {
			s.put(s.was, s.gpu[i], e, true)
		}
	}
	if y.Tokens != nil {
		s.tokens = newVisited(y.Tokens, u.Nodes, experts)
		if y.PerExpert {
			s.tokens.apart(u)
		}
	}
	s.place()
	return s
}

// place counts what the slots hold anew.
func (s *state) place() {
	for e := range s.at {
		s.at[e], s.on[e] = s.at[e][:0], 0
	}
	clear(s.has)
	s.moves, s.off = 0, 0
	for i, e := range s.slot {
		g := s.gpu[i]
		if e < 0 || s.holds(g, e) {
			continue
		}
		s.at[e] = append(s.at[e], g)
		s.on[e] |= 1 << s.u.Node[g]
		s.put(s.has, g, e, true)
		s.moves += s.moved(g, e)
		s.off += s.away(g, e)
	}
	s.reload()
	if s.tokens != nil {
		s.tokens.count(s.on)
	}
}

// reload adds up the loads anew: many small changes leave rounding behind.
func (s *state) reload() {
	clear(s.load)
	for e := range s.at {
		s.addTo(s.load, int32(e), s.at[e], 1)
	}
	s.over = 0
	for g := range s.u.Node {
		s.over += s.above(g, nil)
	}
}

func (s *state) holds(g, e int32) bool { return s.has[int(g)*s.words+int(e>>6)]>>(e&63)&1 != 0 }

func (s *state) put(sets []uint64, g, e int32, in bool) {
	p := &sets[int(g)*s.words+int(e>>6)]
	if *p &^= 1 << (e & 63); in {
		*p |= 1 << (e & 63)
	}
}

// moved is 1 where e was not on GPU g.
func (s *state) moved(g, e int32) int {
	if s.y.Was == nil || s.was[int(g)*s.words+int(e>>6)]>>(e&63)&1 != 0 {
		return 0
	}
	return 1
}

// away is 1 where GPU g is not on e's home node.
func (s *state) away(g, e int32) int {
	if s.y.Home == nil || s.y.Home[e] < 0 || int(s.y.Home[e]) == s.u.Node[g] {
		return 0
	}
	return 1
}

// addTo adds an expert's load by replicas on these GPUs, times sign.
func (s *state) addTo(load []float64, e int32, gpus []int32, sign float64) {
	s.u.shares(s.y.Rule, gpus, s.share)
	for i, g := range gpus {
		x := s.share[i] * sign
		row := load[int(g)*s.windows : (int(g)+1)*s.windows]
		for k, w := range s.y.Loads {
			row[k] += float64(w[e] * x)
		}
	}
}

// above is what a GPU carries above even, its loads changed by more (nil = nothing).
func (s *state) above(g int, more []float64) float64 {
	v, sum := s.u.Speed[g], 0.0
	for k, x := range s.load[g*s.windows : (g+1)*s.windows] {
		if more != nil {
			x += more[k]
		}
		sum += float64(s.y.Weight[k] * max(0, x/v-s.y.Even[k]))
	}
	return sum
}

// within says whether no GPU is above the most that it may carry.
func (s *state) within() bool {
	for g, v := range s.u.Speed {
		for k, x := range s.load[g*s.windows : (g+1)*s.windows] {
			if x > float64(s.y.Most[k]*v) {
				return false
			}
		}
	}
	return true
}

// recast prepares that expert e leaves GPU from and comes to GPU to; -1 = none.
func (c *recast) set(s *state, e, from, to int32) {
	c.e, c.at, c.on = e, c.at[:0], 0
	for _, g := range s.at[e] {
		if to >= 0 && to < g {
			c.at, c.on = append(c.at, to), c.on|1<<s.u.Node[to]
			to = -1
		}
		if g != from {
			c.at, c.on = append(c.at, g), c.on|1<<s.u.Node[g]
		}
	}
	if to >= 0 {
		c.at, c.on = append(c.at, to), c.on|1<<s.u.Node[to]
	}
}

// exchange prepares that slots i and j change their experts; false = they may not.
func (s *state) exchange(i, j int) bool {
	a, b, g, h := s.slot[i], s.slot[j], s.gpu[i], s.gpu[j]
	if a < 0 || b < 0 || g == h || a == b || s.holds(h, a) || s.holds(g, b) {
		return false
	}
	s.change[0].set(s, a, g, h)
	s.change[1].set(s, b, h, g)
	if s.y.Fixed != nil && (s.y.Fixed[a] || s.y.Fixed[b]) {
		return false
	}
	return s.may(s.away(h, a)-s.away(g, a)+s.away(g, b)-s.away(h, b), s.exchangeCost(a, b, g, h))
}

func (s *state) exchangeCost(a, b, g, h int32) int {
	return s.moved(h, a) - s.moved(g, a) + s.moved(g, b) - s.moved(h, b)
}

// replace prepares that slot i holds expert e in place of its own; false = it may not.
func (s *state) replace(i int, e int32) bool {
	f, g := s.slot[i], s.gpu[i]
	if f < 0 || f == e || len(s.at[f]) < 2 || s.holds(g, e) {
		return false
	}
	if s.y.Fixed != nil && (s.y.Fixed[f] || s.y.Fixed[e]) {
		return false
	}
	s.change[0].set(s, f, g, -1)
	s.change[1].set(s, e, -1, g)
	return s.may(s.away(g, e)-s.away(g, f), s.moved(g, e)-s.moved(g, f))
}

// may says whether the change keeps what it must.
func (s *state) may(off, moves int) bool {
	if off > 0 && s.off+off > s.y.Off || moves > 0 && s.moves+moves > s.y.Moves {
		return false
	}
	return s.y.Apart == nil || s.apart(s.change[0].at) && s.apart(s.change[1].at)
}

// apart says whether some GPUs are not all of one block.
func (s *state) apart(gpus []int32) bool {
	for _, g := range gpus {
		if s.y.Apart[g] != s.y.Apart[gpus[0]] {
			return true
		}
	}
	return false
}

// weigh returns by how much the change changes what is above even.
func (s *state) weigh() float64 {
	s.now++
	s.touched = s.touched[:0]
	for i := range s.change {
		c := &s.change[i]
		s.touch(s.at[c.e])
		s.touch(c.at)
		s.addTo(s.delta, c.e, s.at[c.e], -1)
		s.addTo(s.delta, c.e, c.at, 1)
	}
	d := 0.0
	for _, g := range s.touched {
		d += s.above(int(g), s.delta[int(g)*s.windows:(int(g)+1)*s.windows]) - s.above(int(g), nil)
	}
	return d
}

// touch makes room for what a change does to these GPUs' loads.
func (s *state) touch(gpus []int32) {
	for _, g := range gpus {
		if s.stamp[g] != s.now {
			s.stamp[g] = s.now
			s.touched = append(s.touched, g)
			clear(s.delta[int(g)*s.windows : (int(g)+1)*s.windows])
		}
	}
}

// apply makes the change that was prepared and weighed: of slots i and j, or of
// slot i where j is -1.
func (s *state) apply(i, j int, over float64) {
	s.over += over
	for _, g := range s.touched {
		lo := int(g) * s.windows
		for k := range s.windows {
			s.load[lo+k] += s.delta[lo+k]
		}
	}
	g, a, b := s.gpu[i], s.change[0].e, s.change[1].e
	s.hold(g, a, b)
	s.slot[i] = b
	if j >= 0 {
		s.hold(s.gpu[j], b, a)
		s.slot[j] = a
	}
	for c := range s.change {
		x := &s.change[c]
		s.at[x.e], x.at = x.at, s.at[x.e]
		s.on[x.e] = x.on
	}
	if s.tokens != nil {
		s.tokens.apply(&s.change)
	}
}

// hold has GPU g hold expert b in place of a.
func (s *state) hold(g, a, b int32) {
	s.put(s.has, g, a, false)
	s.put(s.has, g, b, true)
	s.moves += s.moved(g, b) - s.moved(g, a)
	s.off += s.away(g, b) - s.away(g, a)
}
