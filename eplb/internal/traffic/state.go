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
	// Even is the load/speed up to which a GPU counts as even, and Most what none may be
	// above, [windows].
	Even, Most []float64
	// Nearest has every GPU send all its tokens of an expert to one replica: its own,
	// else the first on its node, else evenly to all of them; tokens come evenly from
	// all GPUs. It is SGLang's static dispatch. Without it replicas share evenly.
	Nearest bool
	Tokens  *Tokens // whose visits count; nil = none's do
	// PerExpert counts, in place of the nodes that tokens visit, their experts that
	// have no replica on the node a token comes from; tokens come evenly from all GPUs.
	PerExpert bool
	Fixed     []bool // of each expert: its replicas stay; nil = none's do
	// Moves bounds the slots that may come to hold an expert that was not on their
	// GPU, and each must save MovePrice nodes a token; without Prev they are free.
	Moves     int
	MovePrice float64
}

// state is a placement of a layer that changes slot by slot, and what counts in it.
type state struct {
	y       *Layer
	perNode []int        // GPUs of each node
	keeps   search.State // what is where, and what it must keep; of no window
	slot    []int32      // expert in each slot, those of keeps; -1 = empty, which it stays
	gpu     []int32      // of each slot

	share [][]float64 // of an expert's tokens that each GPU gets, [experts][GPUs]
	on    []uint64    // nodes of each expert
	even  []float64   // Even, which may sink
	load  [][]float64 // [GPUs][windows]
	over  float64     // load/speed above even, summed over GPUs, mean of the windows by weight

	tokens *visited  // nil = none, or none visits a node
	one    float64   // what they visit in all where each visits a node
	beside []float64 // what experts cost beside another; nil = unknown
	price  float64   // of what is beside what, and of copies that are sent an expert

	step    search.Change // the change at hand, the two experts that it moves, and its moves
	change  [2]recast
	cost    int
	touched []int32 // GPUs that hold one of the two, ascending
}

// recast is an expert and where its replicas come to be.
type recast struct {
	e     int32
	share []float64 // of the GPUs touched
	on    uint64
}

func newState(y *Layer, slot []int32) *state {
	gpus := y.GPUs()
	s := &state{y: y, perNode: make([]int, y.Nodes), on: make([]uint64, y.Experts), even: y.Even}
	for g, n := range y.Node {
		s.perNode[n]++
		s.load = append(s.load, make([]float64, len(y.Share)))
		for range y.First[g+1] - y.First[g] {
			s.gpu = append(s.gpu, int32(g))
		}
	}
	for range y.Experts {
		s.share = append(s.share, make([]float64, gpus))
	}
	for i := range s.change {
		s.change[i].share = make([]float64, gpus)
	}
	masks := y.Task
	masks.Share = nil // loads are counted here
	s.keeps.Set(&masks)
	s.slot = s.keeps.Slots()
	if t := y.Tokens; t != nil {
		s.tokens = newVisited(t, y.Nodes, s.on)
		s.one = float64(s.tokens.upTo[t.Len()-1])
		if y.Experts <= mostCovaried {
			s.beside = t.besides(y.Experts, gpus)
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
	bare.Tokens, bare.Even = nil, top
	newState(&bare, slot).level(top)
	return top
}

// level sets that of the fullest GPU in each window and returns their mean by
// share.
func (s *state) level(dst []float64) (mean float64) {
	for k, share := range s.y.Share {
		dst[k] = 0
		for g, v := range s.y.Speed {
			dst[k] = max(dst[k], s.load[g][k]/v)
		}
		mean += float64(share * dst[k])
	}
	return mean
}

// place makes a layout the placement at hand and counts all anew.
func (s *state) place(slot []int32) {
	s.keeps.Start(slot)
	s.touched = s.touched[:0]
	for g := range s.load {
		s.touched = append(s.touched, int32(g))
	}
	for _, row := range s.share {
		clear(row)
	}
	for i, e := range s.slot {
		if e >= 0 {
			s.share[e][s.gpu[i]] = 1
		}
	}
	for e := range s.share {
		s.set(&s.change[0], int32(e), -1, -1)
		s.take(&s.change[0])
	}
	if s.reload(); s.visits() {
		for e := range s.share {
			s.tokens.count(int32(e))
		}
	}
}

// reload adds up what counts anew: many small changes leave rounding behind.
func (s *state) reload() {
	s.over, s.price = 0, 0
	for g, row := range s.load {
		clear(row)
		for _, e := range s.slot[s.y.First[g]:s.y.First[g+1]] {
			if e >= 0 {
				s.add(g, e, s.share[e][g])
				s.price += float64(s.share[e][g] * s.with(e, g))
			}
		}
		s.over += s.above(g, 0, 0)
	}
	for e, on := range s.on {
		s.price += s.sent(int32(e), on)
	}
}

// add loads GPU g with a share of expert e.
func (s *state) add(g int, e int32, share float64) {
	for k, w := range s.loads(e) {
		s.load[g][k] += float64(share * w)
	}
}

func (s *state) loads(e int32) []float64 {
	n := len(s.y.Share)
	return s.y.Load[int(e)*n : (int(e)+1)*n]
}

// above is what GPU g carries above even with so much more of the experts of the change.
func (s *state) above(g int, a, b float64) (sum float64) {
	wa, wb := s.loads(s.change[0].e), s.loads(s.change[1].e)
	for k, x := range s.load[g] {
		x += float64(a*wa[k]) + float64(b*wb[k])
		sum += float64(s.y.Share[k] * max(0, x/s.y.Speed[g]-s.even[k]))
	}
	return sum
}

// with is what expert e costs beside what GPU g holds.
func (s *state) with(e int32, g int) (sum float64) {
	if s.beside == nil {
		return 0
	}
	row := s.beside[int(e)*s.y.Experts:][:s.y.Experts]
	for _, x := range s.slot[s.y.First[g]:s.y.First[g+1]] {
		if x >= 0 {
			sum += float64(row[x] * s.share[x][g])
		}
	}
	return sum
}

// sent is the copies of expert e, on some nodes, that a token sends to others.
func (s *state) sent(e int32, on uint64) float64 {
	if !s.y.PerExpert || s.tokens == nil {
		return 0
	}
	away := 0
	for n, gpus := range s.perNode {
		if on>>n&1 == 0 {
			away += gpus
		}
	}
	return float64(float64(s.tokens.chose[e]) / s.one * (float64(away) / float64(len(s.load))))
}

// set prepares that expert e leaves GPU from and comes to GPU to; -1 = none.
func (s *state) set(c *recast, e, from, to int32) {
	c.e, c.on = e, 0
	n, all, away := 0.0, float64(len(s.load)), len(s.load)
	for _, g := range s.touched {
		c.share[g] = 0
		if s.share[e][g] > 0 && g != from || g == to {
			n, c.share[g] = n+1, 1
			if on := c.on | 1<<s.y.Node[g]; on != c.on {
				c.on, away = on, away-s.perNode[s.y.Node[g]]
			}
		}
	}
	first := int32(-1) // replica of a node, which gets what others of it send
	for _, g := range s.touched {
		switch {
		case c.share[g] == 0:
		case !s.y.Nearest:
			c.share[g] = 1 / n
		case first >= 0 && s.y.Node[first] == s.y.Node[g]:
			c.share[g] = (1 + float64(away)/n) / all
			c.share[first] -= 1 / all
		default:
			first, c.share[g] = g, (float64(s.perNode[s.y.Node[g]])+float64(away)/n)/all
		}
	}
}

// take makes what was prepared of an expert so.
func (s *state) take(c *recast) {
	for _, g := range s.touched {
		s.share[c.e][g] = c.share[g]
	}
	s.on[c.e] = c.on
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
	s.touched = s.touched[:0]
	for _, e := range [2]int32{a, b} {
		for _, i := range s.keeps.At(e) {
			s.touched = append(s.touched, s.gpu[i])
		}
	}
	slices.Sort(s.touched)
	s.touched = slices.Compact(s.touched)
	s.set(&s.change[0], a, g, h)
	s.set(&s.change[1], b, h, g)
	return true
}

// weigh returns by how much the change changes what is above even, and the price of the
// rest but for nodes that tokens visit.
func (s *state) weigh() (over, price float64) {
	a, b := &s.change[0], &s.change[1]
	for _, t := range s.touched {
		g := int(t)
		x, y := a.share[g]-s.share[a.e][g], b.share[g]-s.share[b.e][g]
		over += s.above(g, x, y) - s.above(g, 0, 0)
		if s.beside != nil {
			with := func(e, f int32) float64 { return s.beside[int(e)*s.y.Experts+int(f)] }
			price += float64(x*(2*s.with(a.e, g)+float64(x*with(a.e, a.e))+float64(2*y*with(a.e, b.e)))) +
				float64(y*(2*s.with(b.e, g)+float64(y*with(b.e, b.e))))
		}
	}
	for _, c := range s.change {
		price += s.sent(c.e, c.on) - s.sent(c.e, s.on[c.e])
	}
	return over, price
}

// apply makes the change that was prepared and weighed.
func (s *state) apply(over, price float64) {
	s.over += over
	s.price += price
	s.keeps.Apply(s.step)
	for i := range s.change {
		c := &s.change[i]
		for _, g := range s.touched {
			s.add(int(g), c.e, c.share[g]-s.share[c.e][g])
		}
		s.take(c)
	}
	if s.visits() {
		s.tokens.count(s.change[0].e)
		s.tokens.count(s.change[1].e)
	}
}

// visits says whether the nodes that tokens visit count.
func (s *state) visits() bool { return s.tokens != nil && !s.y.PerExpert }
