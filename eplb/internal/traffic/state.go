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
	// Even is the load/speed up to which a GPU counts as even, nil = 0, and Most what
	// none may be above, [windows].
	Even, Most []float64
	// Nearest has every GPU send all its tokens of an expert to one replica: its own,
	// else the first on its node, else evenly to all of them; tokens come evenly from
	// all GPUs. It is SGLang's static dispatch. Without it replicas share evenly.
	Nearest bool
	Tokens  *Tokens // whose visits count; nil = none's do
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

	keeps search.State // what is where, and what it must keep; of no window
	slot  []int32      // expert in each slot, those of keeps; -1 = empty, which it stays
	gpu   []int32      // of each slot
	at    [][]int32    // GPUs of each expert, ascending
	on    []uint64     // nodes of each expert

	even []float64 // [windows]
	load []float64 // [GPUs][windows]
	over float64   // load/speed above even, summed over GPUs, mean of the windows by weight

	tokens *visited // nil = none
	one    float64  // what they visit in all where each visits a node
	risk   *risk    // nil = unknown

	// The change at hand, the experts whose replicas come to be elsewhere by it, the
	// GPUs of these, and the moves that it takes.
	step    search.Change
	change  [2]recast
	touched []int32
	cost    int
	share   []float64
	delta   []float64 // [GPUs][windows]
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
		y: y, windows: windows, perNode: make([]int, y.Nodes),
		gpu: make([]int32, y.Slots()), at: make([][]int32, y.Experts), on: make([]uint64, y.Experts), even: make([]float64, windows),
		load: make([]float64, gpus*windows), delta: make([]float64, gpus*windows), share: make([]float64, gpus),
	}
	copy(s.even, y.Even)
	for g, n := range y.Node {
		s.perNode[n]++
		for i := y.First[g]; i < y.First[g+1]; i++ {
			s.gpu[i] = int32(g)
		}
	}
	masks := y.Task
	masks.Share = nil // loads are counted here
	s.keeps.Set(&masks)
	s.slot = s.keeps.Slots()
	if y.Tokens != nil {
		tokens := y.Tokens
		_, weight := tokens.chosen(y.Experts)
		if s.one = float64(weight); y.PerExpert {
			s.one *= float64(gpus)
			tokens = tokens.apart(y.Experts, s.perNode)
			for n := range y.Nodes {
				s.on = append(s.on, 1<<n)
			}
		}
		s.tokens = newVisited(tokens, y.Nodes, s.on)
		if y.RiskPrice > 0 && y.Experts <= mostCovaried {
			s.risk = newRisk(s)
		}
	}
	s.place(slot)
	return s
}

// Within says whether a GPU may be as full as that in each window.
func (y *Layer) Within(levels []float64) bool {
	for k, x := range levels {
		if x > y.Most[k] {
			return false
		}
	}
	return true
}

// Levels returns the load/speed of the fullest GPU in each window of a placement.
func Levels(y *Layer, slot []int32) []float64 {
	top, bare := make([]float64, len(y.Share)), *y
	bare.Tokens = nil
	newState(&bare, slot).level(top)
	return top
}

// level sets that of the fullest GPU in each window and returns their mean by
// share.
func (s *state) level(dst []float64) float64 {
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
	s.keeps.Start(slot)
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

// reload adds up loads and risk anew: many small changes leave rounding behind.
func (s *state) reload() {
	clear(s.load)
	for e := range s.at {
		s.addTo(s.load, int32(e), s.at[e], 1)
	}
	s.over = 0
	for g := range s.y.Node {
		s.over += s.above(g, nil)
	}
	if s.risk != nil {
		s.risk.count()
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

// shares sets s.share[i] to the part of an expert's tokens that the replica on
// gpus[i] gets; gpus are ascending, and none is twice there.
func (s *state) shares(gpus []int32) {
	n, share := len(gpus), s.share
	if !s.y.Nearest {
		for i := range gpus {
			share[i] = 1 / float64(n)
		}
		return
	}
	all := s.y.GPUs()
	away := all
	for i := 0; i < n; {
		node := s.y.Node[gpus[i]]
		j := i
		for ; j < n && s.y.Node[gpus[j]] == node; j++ {
			share[j] = 1 / float64(all)
		}
		share[i] += float64(s.perNode[node]-(j-i)) / float64(all)
		away -= s.perNode[node]
		i = j
	}
	for i := range gpus {
		share[i] += float64(away) / float64(all*n)
	}
}

// above is what a GPU carries above even, its loads changed by more (nil = nothing).
func (s *state) above(g int, more []float64) float64 {
	v, sum := s.y.Speed[g], 0.0
	for k, x := range s.load[g*s.windows : (g+1)*s.windows] {
		if more != nil {
			x += more[g*s.windows+k]
		}
		sum += float64(s.y.Share[k] * max(0, x/v-s.even[k]))
	}
	return sum
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
func (s *state) weigh() (over float64) {
	s.touched = s.touched[:0]
	for i := range s.change {
		s.touched = append(s.touched, s.at[s.change[i].e]...)
	}
	slices.Sort(s.touched)
	s.touched = slices.Compact(s.touched)
	for _, g := range s.touched {
		clear(s.delta[int(g)*s.windows : (int(g)+1)*s.windows])
	}
	for i := range s.change {
		c := &s.change[i]
		s.addTo(s.delta, c.e, s.at[c.e], -1)
		s.addTo(s.delta, c.e, c.at, 1)
	}
	for _, g := range s.touched {
		over += s.above(int(g), s.delta) - s.above(int(g), nil)
	}
	return over
}

// apply makes the change that was prepared and weighed.
func (s *state) apply(over float64) {
	s.over += over
	for _, g := range s.touched {
		for k := int(g) * s.windows; k < (int(g)+1)*s.windows; k++ {
			s.load[k] += s.delta[k]
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
	if s.risk != nil {
		s.risk.value += s.risk.delta
	}
}
