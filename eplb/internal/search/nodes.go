package search

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// Where experts stay at home but for a few replicas, the load of a node can only
// be changed by replicas away from home, and those are few. Steps that look at one
// GPU do not see that, so nodes are evened out first.

// AheadByNodes walks ahead under the norm of the power 2^twice once it has evened the
// nodes out. Without it, plans with 8 replicas off 4 nodes take twice the moves. share
// is how much of the way from 1 to the goal nodes may be off. seed 0 is the plain path,
// others are random.
func (s *State) AheadByNodes(f *Front, from []int32, twice int, share float64, seed uint64, goal Goal) {
	s.setOut(f, from, twice, seed, goal)
	if s.t.MostOff == 0 {
		s.ahead(f, goal)
		return
	}
	for range evenings {
		was := len(f.paths[len(f.paths)-1].steps)
		s.evenNodes(f, 1+float64(share*(goal.Time-1)), goal)
		s.ahead(f, goal)
		if s.Time() <= goal.Time || len(f.paths[len(f.paths)-1].steps) == was {
			return
		}
	}
}

// EvenNodes evens out the nodes of the placement at hand, where nothing costs a move,
// until none is above a level, no step helps or stop, and returns the largest level of
// a node. There is one window. Without it, plans with 2 to 16 replicas off their nodes
// stand .6% higher.
func (s *State) EvenNodes(level float64, stop func() bool) float64 {
	s.twice, s.over = 0, level
	s.evenNodes(nil, level, Goal{Moves: math.MaxInt, Stop: stop})
	top := 0.0
	for a, x := range s.nodes.over {
		if v := s.nodes.power[a]; v > 0 {
			top = max(top, level+x/v)
		}
	}
	return top
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

// nodes is what evening them out needs.
type nodes struct {
	power []float64 // speeds of each node's GPUs, summed
	over  []float64 // what each carries above what it may, negative below, [nodes][windows]
	total float64   // what they carry above it in all
	cut   []shift   // slots of a node that can do without what they hold
	put   []shift   // experts that may come there
	delta []float64
	seen  []bool  // of each expert
	gpus  float64 // what overload of GPUs is worth
	best  Change
	rate  float64 // what it gains a move
}

// shift is an expert that leaves a slot or comes to a node, and from at on, in delta,
// by how much that changes the load of every node.
type shift struct {
	x  int32 // the slot or the expert
	at int
}

// evenNodes brings nodes to a level, by slots that change their expert and replicas
// that change places, each time by what takes away most overload of nodes, and of
// GPUs, for a move.
func (s *State) evenNodes(f *Front, room float64, goal Goal) {
	p := &s.nodes
	p.set(s)
	if p.gpus = gpusCount; f == nil {
		p.gpus = gpusRough
	}
	for range eveningSteps {
		s.now = s.weigh()
		m := p.survey(s, room)
		if p.total == 0 || goal.Stop() {
			return
		}
		p.best, p.rate = Change{A: -1}, 0
		spare := false
		for b := range p.power {
			p.scanReplacements(s, b, m)
			spare = spare || len(p.cut) > 0
		}
		if p.best.A < 0 && (f != nil || !spare || p.total < nearlyEven) {
			p.scanExchanges(s, m)
		}
		if p.best.A < 0 || s.moves+s.CostOf(p.best) > goal.Moves {
			return
		}
		f.do(s, p.best)
	}
	p.survey(s, room)
}

func (p *nodes) set(s *State) {
	n := 0
	for _, a := range s.t.Node {
		n = max(n, a+1)
	}
	p.power = memory.Resize(p.power, n)
	p.over = memory.Resize(p.over, n*s.n)
	p.seen = memory.Resize(p.seen, s.t.Experts)
	clear(p.power)
	for g, v := range s.t.Speed {
		p.power[s.t.Node[g]] += v
	}
}

// survey adds up what the nodes carry above a level and returns the fullest.
func (p *nodes) survey(s *State, room float64) (fullest int) {
	for a, v := range p.power {
		for k := range s.n {
			p.over[a*s.n+k] = -float64(room * v)
		}
	}
	for i, l := range s.level {
		p.over[s.t.Node[i/s.n]*s.n+i%s.n] += float64(l * s.t.Speed[i/s.n])
	}
	p.total = 0
	most := 0.0
	for a := range p.power {
		sum := 0.0
		for k, share := range s.t.Share {
			sum += float64(share * max(0, p.over[a*s.n+k]))
		}
		if p.total += sum; sum > most {
			fullest, most = a, sum
		}
	}
	return fullest
}

// scanExchanges considers that replicas on node m, and those away from home, change
// places with others.
func (p *nodes) scanExchanges(s *State, m int) {
	for i, e := range s.slot {
		h := s.gpu[i]
		a := s.t.Node[h]
		if e < 0 || a != m && s.offBy(h, e) == 0 {
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
				d, oa, ob := s.size[int(e)*s.n+k]-s.size[int(x)*s.n+k], p.over[a*s.n+k], p.over[b*s.n+k]
				if d > 0 && oa > 0 || d < 0 && ob > 0 || s.n > 1 {
					gain += float64(share * (max(0, oa) + max(0, ob) - max(0, oa-d) - max(0, ob+d)))
				}
			}
			if c := (Change{int32(i), int32(j), -1}); p.worth(gain) && s.May(c) {
				p.offer(s, c, gain)
			}
		}
	}
}

// scanReplacements considers one copy more on node b, of what is on node m.
func (p *nodes) scanReplacements(s *State, b, m int) {
	p.list(s, b, m)
	s.work += len(p.cut) * len(p.put)
	for _, c := range p.cut {
		for _, q := range p.put {
			gain := p.total
			dq := p.delta[q.at:][:len(p.over)]
			for i, d := range p.delta[c.at:][:len(p.over)] {
				if y := p.over[i] + d + dq[i]; y > 0 {
					if gain -= float64(s.t.Share[i%s.n] * y); gain <= 0 {
						break
					}
				}
			}
			if d := (Change{c.x, -1, q.x}); p.worth(gain) && s.May(d) {
				p.offer(s, d, gain)
			}
		}
	}
}

// list lists the slots of node b that can do without what they hold, and the experts
// on node m.
func (p *nodes) list(s *State, b, m int) {
	p.cut, p.put, p.delta = p.cut[:0], p.put[:0], p.delta[:0]
	clear(p.seen)
	for i, e := range s.slot {
		a := s.t.Node[s.gpu[i]]
		if a == b && s.mayDrop(int32(i)) {
			p.cut = append(p.cut, shift{int32(i), len(p.delta)})
			p.shift(s, e, b, -1)
		}
		if a == m && e >= 0 && !p.seen[e] {
			p.seen[e] = true
			p.put = append(p.put, shift{e, len(p.delta)})
			p.shift(s, e, b, 1)
		}
	}
}

// shift appends to delta what one copy of e more (d = 1) or less (-1) on node b does.
func (p *nodes) shift(s *State, e int32, b, d int) {
	at := len(p.delta)
	for range p.over {
		p.delta = append(p.delta, 0)
	}
	if e < 0 {
		return
	}
	delta := p.delta[at:]
	c := float64(s.count[e])
	all := c / (c + float64(d)) // of its size, what one is then
	for k, x := range s.size[int(e)*s.n:][:s.n] {
		for _, i := range s.at[e] {
			delta[s.t.Node[s.gpu[i]]*s.n+k] += float64(x * (all - 1))
		}
		delta[b*s.n+k] += float64(float64(float64(d)*x) * all)
	}
}

// worth says whether a change that gains so much at the nodes is worth a look at what
// it does to GPUs.
func (p *nodes) worth(gain float64) bool { return gain > 1e-9 && 2*gain > float64(p.rate*weight[0]) }

// offer keeps a change if it gains most a move.
func (p *nodes) offer(s *State, c Change, gain float64) {
	w := weight[max(0, s.CostOf(c))]
	if 2*gain <= float64(p.rate*w) {
		return
	}
	s.work += 8
	v, _ := s.after(c, math.Inf(1))
	if x := s.blur(gain+float64(p.gpus*(s.now-v))) / w; x > p.rate {
		p.best, p.rate = c, x
	}
}
