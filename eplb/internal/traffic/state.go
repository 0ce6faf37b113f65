package traffic

import "github.com/moelb/moelb/eplb/internal/search"

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

	keeps search.State // what is where, and what it must keep; of no window
	slot  []int32      // expert in each slot, those of keeps; -1 = empty, which it stays
	gpu   []int32      // of each slot
	at    [][]int32    // GPUs of each expert, ascending
	on    []uint64     // nodes of each expert

	load []float64 // [GPUs][windows]
	over float64   // load/speed above even, summed over GPUs, mean of the windows by weight

	tokens *visited

	// The change at hand: one or two experts whose replicas come to be elsewhere, and
	// the moves that it takes.
	change  [2]recast
	cost    int
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
	s := &state{u: u, y: y, windows: len(y.Loads)}
	t := &search.Task{Experts: experts, First: u.First, Speed: u.Speed, Home: y.Home, Node: u.Node, MostOff: y.Off, Domain: y.Apart}
	s.gpu = make([]int32, u.Slots())
	for g := range gpus {
		for i := u.First[g]; i < u.First[g+1]; i++ {
			s.gpu[i] = int32(g)
		}
	}
	if y.Was != nil {
		t.Prev, t.Had = y.Was, make([]uint64, gpus*t.Words())
		for i, e := range y.Was {
			if e >= 0 {
				t.Had[int(s.gpu[i])*t.Words()+int(e>>6)] |= 1 << (e & 63)
			}
		}
	}
	s.keeps.Set(t)
	s.slot = s.keeps.Slots()
	copy(s.slot, slot)
	s.at = make([][]int32, experts)
	s.on = make([]uint64, experts)
	s.load = make([]float64, gpus*s.windows)
	s.delta = make([]float64, gpus*s.windows)
	s.stamp = make([]int32, gpus)
	s.share = make([]float64, gpus)
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
	s.keeps.Start(s.slot)
	for e := range s.at {
		s.at[e], s.on[e] = s.at[e][:0], 0
	}
	for i, e := range s.slot {
		if e >= 0 {
			s.at[e] = append(s.at[e], s.gpu[i])
			s.on[e] |= 1 << s.u.Node[s.gpu[i]]
		}
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
	if a < 0 || b < 0 || !s.may(search.Change{A: int32(i), B: int32(j), E: -1}, a, b) {
		return false
	}
	s.change[0].set(s, a, g, h)
	s.change[1].set(s, b, h, g)
	return true
}

// replace prepares that slot i holds expert e in place of its own; false = it may not.
func (s *state) replace(i int, e int32) bool {
	f, g := s.slot[i], s.gpu[i]
	if f < 0 || !s.may(search.Change{A: int32(i), B: -1, E: e}, f, e) {
		return false
	}
	s.change[0].set(s, f, g, -1)
	s.change[1].set(s, e, -1, g)
	return true
}

// may says whether a change of two experts keeps what it must, and notes its moves.
func (s *state) may(c search.Change, a, b int32) bool {
	if s.y.Fixed != nil && (s.y.Fixed[a] || s.y.Fixed[b]) || !s.keeps.May(c) {
		return false
	}
	s.cost = s.keeps.CostOf(c)
	return s.cost <= 0 || s.keeps.Moves()+s.cost <= s.y.Moves
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
	c := search.Change{A: int32(i), B: int32(j), E: -1}
	if j < 0 {
		c.E = s.change[1].e
	}
	s.keeps.Apply(c)
	for c := range s.change {
		x := &s.change[c]
		s.at[x.e], x.at = x.at, s.at[x.e]
		s.on[x.e] = x.on
	}
	if s.tokens != nil {
		s.tokens.apply(&s.change)
	}
}
