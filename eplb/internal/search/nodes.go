package search

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// Where experts stay at home but for a few replicas, the load of a node can only
// be changed by replicas away from home, and those are few. Steps that look at one
// GPU do not see that, so nodes are evened out first.

// AheadByNodes walks ahead under the norm of the power 2^twice once it has evened the
// nodes out. Without it, plans with 8 replicas off 4 nodes take twice the moves. share
// is how much of the way from 1 to the goal nodes may be off.
func (s *State) AheadByNodes(f *Front, from []int32, twice int, share float64, goal Goal) {
	s.setOut(f, from, twice, goal)
	for range evenings {
		was := f.at
		s.evenNodes(f, 1+float64(share*(goal.Time-1)), gpusCount, goal)
		s.ahead(f, goal)
		if s.Time() <= goal.Time || f.at == was {
			return
		}
	}
}

// EvenNodes evens out the nodes of the placement at hand, where nothing costs a move,
// until none is above a level, no step helps or stop. There is one window. Without it,
// plans with 2 to 16 replicas off their nodes stand .6% higher.
func (s *State) EvenNodes(level float64, stop func() bool) {
	s.twice, s.over = 0, level
	s.evenNodes(nil, level, gpusRough, Goal{Moves: math.MaxInt, Stop: stop})
}

const (
	// evenings is how often a path evens the nodes out, each time before it looks at
	// GPUs until nothing helps there.
	evenings = 4
	// gpusCount is what a GPU's overload is worth in a node's, gpusRough the same where
	// GPUs are yet to be evened out.
	gpusCount = .5
	gpusRough = .1
	// nearlyEven is what nodes may carry too much in all for exchanges to be looked at,
	// which are dear, where nothing costs a move.
	nearlyEven = .02
	// eveningSteps bounds the steps of one.
	eveningSteps = 64
)

// nodes is what evening them out needs. Loads of nodes are [nodes][windows].
type nodes struct {
	over  []float64 // what each carries above what it may, negative below
	total float64   // what they carry above it in all
	cut   []shift   // slots of a node that can do without what they hold
	put   []shift   // experts that may come there
	delta []float64 // memory of both
	gpus  float64   // what overload of GPUs is worth
	best  Change
	rate  float64 // what it gains a move
}

// shift is an expert that leaves a slot or comes to a node, and by how much that changes
// the load of every node.
type shift struct {
	x     int32 // the slot or the expert
	delta []float64
}

// NodesOver is what nodes carry above a level in all.
func (s *State) NodesOver(level float64) float64 {
	p := &s.nodes
	p.over = memory.Resize(p.over, (1+slices.Max(s.t.Node))*s.n)
	clear(p.over)
	for i, l := range s.level {
		p.over[s.t.Node[i/s.n]*s.n+i%s.n] += float64((l - level) * s.t.Speed[i/s.n])
	}
	p.total = 0
	for i, x := range p.over {
		p.total += float64(s.t.Share[i%s.n] * max(0, x))
	}
	return p.total
}

// evenNodes brings nodes to a level, by slots that change their expert for one of the
// fullest node and replicas that change places with those there or away from home, each
// time by what takes away most overload of nodes, and of GPUs, for a move.
func (s *State) evenNodes(f *Front, level, gpus float64, goal Goal) {
	p := &s.nodes
	p.gpus = gpus
	for range eveningSteps {
		s.now = s.weigh()
		if s.NodesOver(level) == 0 || goal.Stop() {
			return
		}
		full := 0
		for a := range len(p.over) / s.n {
			if s.mean(p.over[a*s.n:]) > s.mean(p.over[full*s.n:]) {
				full = a
			}
		}
		p.best, p.rate = Change{A: -1}, 0
		spare := false
		for b := range len(p.over) / s.n {
			s.replaceForNodes(b, full)
			spare = spare || len(p.cut) > 0
		}
		if p.best.A < 0 && (f != nil || !spare || p.total < nearlyEven) {
			s.exchangeForNodes(full)
		}
		if p.best.A < 0 || s.moves+s.CostOf(p.best) > goal.Moves {
			return
		}
		f.do(s, p.best)
	}
}

// replaceForNodes considers one copy more on node b, of what is on node m.
func (s *State) replaceForNodes(b, m int) {
	p := &s.nodes
	p.cut, p.put, p.delta = p.cut[:0], p.put[:0], p.delta[:0]
	for i, e := range s.slot {
		if s.t.Node[s.gpu[i]] == b && s.mayDrop(int32(i)) {
			p.cut = append(p.cut, shift{int32(i), s.shift(e, b, -1)})
		}
	}
	for e, at := range s.at {
		if len(p.cut) > 0 && slices.ContainsFunc(at, func(i int32) bool { return s.t.Node[s.gpu[i]] == m }) {
			p.put = append(p.put, shift{int32(e), s.shift(int32(e), b, 1)})
		}
	}
	s.work += len(p.cut) * len(p.put)
	for _, c := range p.cut {
		for _, q := range p.put {
			gain := p.total
			for i, d := range c.delta {
				if y := p.over[i] + d + q.delta[i]; y > 0 {
					if gain -= float64(s.t.Share[i%s.n] * y); gain <= 0 {
						break
					}
				}
			}
			if d := (Change{c.x, -1, q.x}); s.worth(gain) && s.May(d) {
				s.offerForNodes(d, gain)
			}
		}
	}
}

// shift is by how much one copy of e more (d = 1) or less (-1) on node b changes the load
// of every node.
func (s *State) shift(e int32, b int, d float64) []float64 {
	p := &s.nodes
	p.delta = append(p.delta, make([]float64, len(p.over))...)
	delta := p.delta[len(p.delta)-len(p.over):]
	if e < 0 {
		return delta
	}
	c := float64(s.count[e])
	all := c / (c + d) // of its size, what one is then
	for k, x := range s.size[int(e)*s.n:][:s.n] {
		for _, i := range s.at[e] {
			delta[s.t.Node[s.gpu[i]]*s.n+k] += float64(x * (all - 1))
		}
		delta[b*s.n+k] += float64(float64(d*x) * all)
	}
	return delta
}

// exchangeForNodes considers that replicas on node m, and those away from home, change
// places with others.
func (s *State) exchangeForNodes(m int) {
	over := s.nodes.over
	for i, e := range s.slot {
		a := s.t.Node[s.gpu[i]]
		if e < 0 || a != m && s.offBy(s.gpu[i], e) == 0 {
			continue
		}
		s.work += len(s.slot)
		for j, x := range s.slot {
			b := s.t.Node[s.gpu[j]]
			if x < 0 || a == b {
				continue
			}
			gain := 0.0
			for k, share := range s.t.Share {
				d, oa, ob := s.size[int(e)*s.n+k]-s.size[int(x)*s.n+k], over[a*s.n+k], over[b*s.n+k]
				if d > 0 && oa > 0 || d < 0 && ob > 0 || s.n > 1 {
					gain += float64(share * (max(0, oa) + max(0, ob) - max(0, oa-d) - max(0, ob+d)))
				}
			}
			if c := (Change{int32(i), int32(j), -1}); s.worth(gain) && s.May(c) {
				s.offerForNodes(c, gain)
			}
		}
	}
}

// worth says whether a change that takes so much overload of nodes away is worth a look
// at what it does to GPUs.
func (s *State) worth(gain float64) bool {
	return gain > 1e-9 && 2*gain > float64(s.nodes.rate*weight[0])
}

// offerForNodes keeps a change that takes so much overload of nodes away if it gains most
// a move, with what it does to GPUs.
func (s *State) offerForNodes(c Change, gain float64) {
	p := &s.nodes
	w := weight[max(0, s.CostOf(c))]
	if 2*gain <= float64(p.rate*w) {
		return
	}
	s.work += 8
	v, _ := s.after(c, math.Inf(1))
	if x := (gain + float64(p.gpus*(s.now-v))) / w; x > p.rate {
		p.best, p.rate = c, x
	}
}
