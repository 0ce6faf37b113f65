package traffic

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

// Layer is what is to be placed, and what a placement of it must keep.
type Layer struct {
	// Task is the layer as the search has it; Node is always set, and Home that of
	// replicas that may not leave it.
	search.Task
	// Nodes are numbered below it.
	Nodes int
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
	Fixed     []bool // of each expert: its replicas stay; nil = none's do
	// Moves bounds the slots that may come to hold an expert that was not on their
	// GPU, and each must save MovePrice nodes a token; without Prev they are free.
	Moves     int
	MovePrice float64
}

// state is a placement of a layer that changes slot by slot.
type state struct {
	y       *Layer
	windows int
	perNode []int // GPUs of each node
	upTo    []int // slots of the nodes below each

	keeps search.State // what is where, and what it must keep; of no window
	slot  []int32      // expert in each slot, those of keeps; -1 = empty, which it stays
	gpu   []int32      // of each slot
	at    [][]int32    // GPUs of each expert, ascending
	on    []uint64     // nodes of each expert

	load []float64 // [GPUs][windows]
	over float64   // load/speed above even, summed over GPUs, mean of the windows by weight

	tokens *visited

	// The change at hand, the experts whose replicas come to be elsewhere by it, and the
	// moves that it takes.
	step    search.Change
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

func newState(y *Layer, slot []int32) *state {
	gpus, windows := y.GPUs(), len(y.Share)
	s := &state{
		y: y, windows: windows, perNode: make([]int, y.Nodes), upTo: make([]int, y.Nodes+1),
		gpu: make([]int32, y.Slots()), at: make([][]int32, y.Experts), on: make([]uint64, y.Experts),
		load: make([]float64, gpus*windows), delta: make([]float64, gpus*windows), stamp: make([]int32, gpus), share: make([]float64, gpus),
	}
	for g, n := range y.Node {
		s.perNode[n]++
		s.upTo[n+1] = y.First[g+1]
		for i := y.First[g]; i < y.First[g+1]; i++ {
			s.gpu[i] = int32(g)
		}
	}
	masks := y.Task
	masks.Share = nil // loads are counted here
	s.keeps.Set(&masks)
	s.slot = s.keeps.Slots()
	if y.Tokens != nil {
		s.tokens = newVisited(y.Tokens, y.Nodes, s.on)
		if y.PerExpert {
			s.tokens.apart(s.perNode, gpus)
		}
	}
	s.place(slot)
	return s
}

// bare is a state without tokens, where all load counts as uneven.
func bare(y *Layer, slot []int32) *state {
	of := *y
	of.Tokens, of.Even = nil, make([]float64, len(y.Share))
	return newState(&of, slot)
}

// Levels returns the load/speed of the fullest GPU in each window of a placement.
func Levels(y *Layer, slot []int32) []float64 {
	top := make([]float64, len(y.Share))
	bare(y, slot).levels(top)
	return top
}

// levels sets the level of the fullest GPU in each window and returns their mean by
// share.
func (s *state) levels(dst []float64) float64 {
	clear(dst)
	for g, v := range s.y.Speed {
		for k, x := range s.load[g*s.windows : (g+1)*s.windows] {
			dst[k] = max(dst[k], x/v)
		}
	}
	sum := 0.0
	for k, x := range dst {
		sum += float64(s.y.Share[k] * x)
	}
	return sum
}

// place makes a layout the placement at hand and counts all anew.
func (s *state) place(slot []int32) {
	copy(s.slot, slot)
	s.keeps.Start(s.slot)
	for e := range s.at {
		s.at[e], s.on[e] = s.at[e][:0], 0
	}
	for i, e := range s.slot {
		if e >= 0 {
			s.at[e] = append(s.at[e], s.gpu[i])
			s.on[e] |= 1 << s.y.Node[s.gpu[i]]
		}
	}
	s.reload()
	if s.tokens != nil {
		s.tokens.count()
	}
}

// reload adds up the loads anew: many small changes leave rounding behind.
func (s *state) reload() {
	clear(s.load)
	for e := range s.at {
		s.addTo(s.load, int32(e), s.at[e], 1)
	}
	s.over = 0
	for g := range s.y.Node {
		s.over += s.above(g, nil)
	}
}

// addTo adds an expert's load by replicas on these GPUs, times sign.
func (s *state) addTo(load []float64, e int32, gpus []int32, sign float64) {
	s.shares(gpus)
	for i, g := range gpus {
		x := s.share[i] * sign
		row := load[int(g)*s.windows : (int(g)+1)*s.windows]
		for k, w := range s.y.Load[int(e)*s.windows:][:s.windows] {
			row[k] += float64(w * x)
		}
	}
}

// above is what a GPU carries above even, its loads changed by more (nil = nothing).
func (s *state) above(g int, more []float64) float64 {
	v, sum := s.y.Speed[g], 0.0
	for k, x := range s.load[g*s.windows : (g+1)*s.windows] {
		if more != nil {
			x += more[k]
		}
		sum += float64(s.y.Share[k] * max(0, x/v-s.y.Even[k]))
	}
	return sum
}

// within says whether no GPU is above the most that it may carry.
func (s *state) within() bool {
	for g, v := range s.y.Speed {
		for k, x := range s.load[g*s.windows : (g+1)*s.windows] {
			if x > float64(s.y.Most[k]*v) {
				return false
			}
		}
	}
	return true
}

// set prepares that expert e leaves GPU from and comes to GPU to; -1 = none.
func (c *recast) set(s *state, e, from, to int32) {
	c.e, c.at, c.on = e, append(c.at[:0], s.at[e]...), 0
	if from >= 0 {
		k := slices.Index(c.at, from)
		c.at = slices.Delete(c.at, k, k+1)
	}
	if to >= 0 {
		k, _ := slices.BinarySearch(c.at, to)
		c.at = slices.Insert(c.at, k, to)
	}
	for _, g := range c.at {
		c.on |= 1 << s.y.Node[g]
	}
}

// exchange prepares that slots i and j change their experts; false = they may not.
func (s *state) exchange(i, j int) bool {
	return s.prepare(search.Change{A: int32(i), B: int32(j), E: -1})
}

// replace prepares that slot i holds expert e in place of its own; false = it may not.
func (s *state) replace(i int, e int32) bool {
	return s.prepare(search.Change{A: int32(i), B: -1, E: e})
}

// prepare notes a change if it is one and keeps what it must.
func (s *state) prepare(c search.Change) bool {
	a, g, b, h := s.slot[c.A], s.gpu[c.A], c.E, int32(-1)
	if c.B >= 0 {
		b, h = s.slot[c.B], s.gpu[c.B]
	}
	if a < 0 || b < 0 || s.y.Fixed != nil && (s.y.Fixed[a] || s.y.Fixed[b]) || !s.keeps.May(c) {
		return false
	}
	s.step, s.cost = c, s.keeps.CostOf(c)
	if s.cost > 0 && s.keeps.Moves()+s.cost > s.y.Moves {
		return false
	}
	s.change[0].set(s, a, g, h)
	s.change[1].set(s, b, h, g)
	return true
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

// apply makes the change that was prepared and weighed.
func (s *state) apply(over float64) {
	s.over += over
	for _, g := range s.touched {
		lo := int(g) * s.windows
		for k := range s.windows {
			s.load[lo+k] += s.delta[lo+k]
		}
	}
	s.keeps.Apply(s.step)
	for i := range s.change {
		x := &s.change[i]
		s.at[x.e], x.at = x.at, s.at[x.e]
		s.on[x.e] = x.on
	}
	if s.tokens != nil {
		s.tokens.apply()
	}
}
