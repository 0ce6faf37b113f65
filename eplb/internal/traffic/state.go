package traffic

import (
	"math/rand/v2"
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
	Tokens     *Tokens // whose visits count; nil = none's do
	// PerExpert counts, in place of the nodes that tokens visit, their experts that
	// have no replica on the node a token comes from; tokens come evenly from all GPUs.
	PerExpert bool
	Fixed     []bool // of each expert: its replicas stay; nil = none's do
	// Moves bounds the slots that may come to hold an expert that was not on their
	// GPU, and each must save MovePrice nodes a token; without Prev they are free.
	Moves     int
	MovePrice float64
}

// At is a placement of y, for its levels.
func (y *Layer) At(slot []int32) *search.State {
	s := &search.State{}
	s.Set(&y.Task)
	s.Start(slot)
	return s
}

// Within says whether no GPU is above Most in a placement.
func (y *Layer) Within(s *search.State) bool {
	for k, most := range y.Most {
		if s.Top(k) > most*(1+1e-12) { // whatever order it was added up in
			return false
		}
	}
	return true
}

// state is a placement that random changes are tried on, and what they are judged by:
// nodes a token.
type state struct {
	search.State
	y    *Layer
	rng  rand.PCG
	stop func() bool

	heat  float64   // what a change may harm
	even  []float64 // Even, which may sink
	dear  float64   // price of load/speed above even, summed over GPUs, mean of the windows by share
	worth float64   // of the placement, less is better, over that which was begun with

	tokens *visited  // nil = none, or none visits a node
	beside []float64 // what experts cost beside another; nil = unknown
	gpus   []int     // of each node
	on     []uint64  // nodes of each expert
	near   []int32   // the GPUs of the two experts that a change is about
}

func newState(y *Layer, slot []int32, seed uint64, stop func() bool) *state {
	s := &state{y: y, stop: stop, even: y.Even, gpus: make([]int, y.Nodes), on: make([]uint64, y.Experts)}
	s.rng.Seed(seed, seed+1)
	for _, n := range y.Node {
		s.gpus[n]++
	}
	if t := y.Tokens; t != nil {
		if s.tokens = newVisited(t, y.Nodes, s.on); y.Experts <= mostCovaried {
			s.beside = t.besides(y.Experts, y.GPUs())
		}
	}
	s.Set(&y.Task)
	s.place(slot)
	return s
}

// place makes a layout the placement at hand.
func (s *state) place(slot []int32) {
	s.Start(slot)
	s.worth = 0
	for e := range s.on {
		s.on[e] = s.nodes(int32(e))
	}
	if s.visits() {
		for i := range s.tokens.nodes {
			s.tokens.count(int32(i))
		}
	}
}

// visits says whether the nodes that tokens visit count.
func (s *state) visits() bool { return s.tokens != nil && !s.y.PerExpert }

// nodes is the set of those that hold expert e.
func (s *state) nodes(e int32) (on uint64) {
	for _, i := range s.At(e) {
		on |= 1 << s.y.Node[s.GPU(i)]
	}
	return on
}

// try makes a change unless it breaks what must be kept or harms by more than room.
func (s *state) try(c search.Change, room float64) bool {
	a, b := s.Slots()[c.A], c.E
	if c.B >= 0 {
		b = s.Slots()[c.B]
	}
	if a < 0 || b < 0 || s.y.Fixed != nil && (s.y.Fixed[a] || s.y.Fixed[b]) || !s.May(c) {
		return false // empty slots stay so
	}
	moves := s.CostOf(c)
	if moves > 0 && s.Moves()+moves > s.y.Moves {
		return false
	}
	s.near = s.near[:0]
	for _, e := range [2]int32{a, b} {
		for _, i := range s.At(e) {
			if g := s.GPU(i); !slices.Contains(s.near, g) {
				s.near = append(s.near, g)
			}
		}
	}
	over, price := s.weigh(a, b)
	was := [2]uint64{s.on[a], s.on[b]}
	if s.Try(c); s.tokens != nil {
		s.on[a], s.on[b] = s.nodes(a), s.nodes(b)
	}
	o, p := s.weigh(a, b)
	over, price = o-over, p-price+float64(s.y.MovePrice*float64(moves))
	cost := price + float64(s.dear*over)
	if s.visits() {
		nodes := s.tokens.weigh([2]int32{a, b}, was, room-cost)
		price, cost = price+nodes, cost+nodes
	}
	if cost > room {
		s.Undo()
		s.on[a], s.on[b] = was[0], was[1]
		return false
	}
	s.worth += price + float64(dear*over)
	if s.visits() {
		s.tokens.recount(a)
		s.tokens.recount(b)
	}
	return true
}

// weigh is what the GPUs near carry above even, and the price of a and b: of what is
// beside them there, and of their copies.
func (s *state) weigh(a, b int32) (over, price float64) {
	for _, g := range s.near {
		if over += s.above(g); s.beside != nil {
			price += s.besides(g, a, b)
		}
	}
	return over, price + s.sent(a) + s.sent(b)
}

// above is what GPU g carries above even.
func (s *state) above(g int32) (sum float64) {
	for k, x := range s.Level(g) {
		sum += float64(s.y.Share[k] * max(0, x-s.even[k]))
	}
	return sum
}

// besides is what experts a and b cost beside what GPU g holds.
func (s *state) besides(g, a, b int32) (sum float64) {
	first, holds := s.y.First[g], s.Slots()[s.y.First[g]:s.y.First[g+1]]
	for _, e := range [2]int32{a, b} {
		i := slices.Index(holds, e)
		if i < 0 {
			continue
		}
		row, one := s.beside[int(e)*s.y.Experts:][:s.y.Experts], 0.0
		for j, x := range holds {
			if x >= 0 {
				w := 2.0 // from both sides
				if x == a || x == b {
					w = 1
				}
				one += float64(w * row[x] * s.Part(first+j))
			}
		}
		sum += float64(one * s.Part(first+i))
	}
	return sum
}

// sent is the copies of expert e that a token sends to other nodes, where each goes by
// itself.
func (s *state) sent(e int32) float64 {
	if !s.y.PerExpert || s.tokens == nil {
		return 0
	}
	away := 0
	for n, gpus := range s.gpus {
		if s.on[e]>>n&1 == 0 {
			away += gpus
		}
	}
	return float64(s.tokens.chose[e] / s.tokens.all * (float64(away) / float64(s.y.GPUs())))
}
