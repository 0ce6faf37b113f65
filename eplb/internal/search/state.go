package search

import (
	"math"
	"math/bits"
	"slices"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// State is a placement at hand and what changes of it need to know. Its memory is
// used again for every layer. Not safe for concurrent use.
type State struct {
	t     *Task
	n     int // windows
	words int

	slot  []int32   // expert in each slot, -1 = none
	gpu   []int32   // of each slot
	count []int32   // replicas of each expert
	at    [][]int32 // and their slots
	has   []uint64  // the set of experts of each GPU
	size  []float64 // load of a replica, [experts][windows]
	gets  []float64 // of each slot, how often it gets that: 1 where replicas share evenly
	gpus  []int     // of each node, where it is not 1
	level []float64 // load/speed, [GPUs][windows]
	inv   []float64 // 1/speed
	moves int
	off   int     // replicas that are not at home
	away  []int32 // of each GPU: slots whose expert was not there

	norm
	scan
	nodes nodes
	was   struct { // before the change that was tried
		back        Change
		level, gets []float64
	}
}

// Set readies s for a task. Load of the task may change until Start is called.
func (s *State) Set(t *Task) {
	s.t, s.n, s.words = t, len(t.Share), t.Words()
	slots, gpus := t.Slots(), t.GPUs()
	s.slot = memory.Resize(s.slot, slots)
	s.gpu = memory.Resize(s.gpu, slots)
	s.count = memory.Resize(s.count, t.Experts)
	s.has = memory.Resize(s.has, gpus*s.words)
	s.size = memory.Resize(s.size, t.Experts*s.n)
	s.level = memory.Resize(s.level, gpus*s.n)
	s.inv = memory.Resize(s.inv, gpus)
	s.away = memory.Resize(s.away, gpus)
	s.gets = memory.Resize(s.gets, slots)
	for i := range s.gets {
		s.gets[i] = 1
	}
	if s.gpus = s.gpus[:0]; t.Nearest {
		s.gpus = append(s.gpus, make([]int, 1+slices.Max(t.Node))...)
		for _, n := range t.Node {
			s.gpus[n]++
		}
	}
	for len(s.at) < t.Experts {
		s.at = append(s.at, nil)
	}
	s.at = s.at[:t.Experts]
	for g, v := range t.Speed {
		s.inv[g] = 1 / v
		for i := t.First[g]; i < t.First[g+1]; i++ {
			s.gpu[i] = int32(g)
		}
	}
	s.work, s.forks, s.most = 0, 1, math.MaxInt
	s.norm.set(s)
	s.scan.set(s)
}

// Start makes a layout the placement at hand.
func (s *State) Start(slot []int32) {
	copy(s.slot, slot)
	clear(s.count)
	clear(s.has)
	for e := range s.at {
		s.at[e] = s.at[e][:0]
	}
	for i, e := range s.slot {
		if e >= 0 {
			s.count[e]++
			s.at[e] = append(s.at[e], int32(i))
			s.has[int(s.gpu[i])*s.words+int(e>>6)] |= 1 << (e & 63)
		}
	}
	for e := range s.count {
		s.resize(int32(e))
		s.deal(int32(e))
	}
	s.moves, s.off = 0, 0
	clear(s.away)
	for i, e := range s.slot {
		s.tally(int32(i), e, 1)
	}
	s.Refresh()
}

// tally counts a replica that comes (by 1) or goes (by -1).
func (s *State) tally(i, e int32, by int) {
	if e < 0 {
		return
	}
	g := s.gpu[i]
	if !s.had(g, e) {
		s.moves += by
		s.away[g] += int32(by)
	}
	s.off += by * s.offBy(g, e)
}

// resize sets the load of a replica of e.
func (s *State) resize(e int32) {
	if e < 0 {
		return
	}
	c := float64(max(s.count[e], 1))
	for i := int(e) * s.n; i < (int(e)+1)*s.n; i++ {
		s.size[i] = s.t.Load[i] / c
	}
}

// deal sets what the replicas of e get where GPUs send to the nearest.
func (s *State) deal(e int32) {
	if e < 0 || !s.t.Nearest {
		return
	}
	at, node := s.at[e], s.t.Node
	away := len(s.inv) // GPUs on nodes that have none
	for _, i := range at {
		n, here, first := node[s.gpu[i]], 0, i
		for _, j := range at {
			if node[s.gpu[j]] == n {
				here, first = here+1, min(first, j)
			}
		}
		near := 1
		if i == first { // those that have none of their own send to it too
			near += s.gpus[n] - here
			away -= s.gpus[n]
		}
		s.gets[i] = float64(near * len(at))
	}
	for _, i := range at {
		s.gets[i] = (s.gets[i] + float64(away)) / float64(len(s.inv))
	}
}

// Refresh adds up the levels anew: many changes leave rounding behind.
func (s *State) Refresh() {
	t, n := s.t, s.n
	for g, v := range s.inv {
		level := s.level[g*n : (g+1)*n]
		clear(level)
		for i, e := range s.slot[t.First[g]:t.First[g+1]] {
			if e >= 0 {
				for k, x := range s.size[int(e)*n : (int(e)+1)*n] {
					level[k] += float64(x * s.gets[t.First[g]+i])
				}
			}
		}
		for k := range level {
			level[k] *= v
		}
	}
}

// Time is what is made small: the sum over windows of their share times the
// largest level.
func (s *State) Time() float64 {
	sum := 0.0
	for k, a := range s.t.Share {
		sum += float64(a * s.Top(k))
	}
	return sum
}

// Top is the largest level in window k.
func (s *State) Top(k int) (top float64) {
	for i := k; i < len(s.level); i += s.n {
		top = max(top, s.level[i])
	}
	return top
}

// Level is the level of a GPU in each window; it is the state's own.
func (s *State) Level(g int32) []float64 { return s.level[int(g)*s.n:][:s.n] }

// GPU is that of slot i.
func (s *State) GPU(i int32) int32 { return s.gpu[i] }

// Part is the share of its expert's tokens that slot i gets.
func (s *State) Part(i int) float64 { return s.gets[i] / float64(s.count[s.slot[i]]) }

// Slots is the placement at hand; it is the state's own.
func (s *State) Slots() []int32 { return s.slot }

// Counts is the number of replicas of each expert; it is the state's own.
func (s *State) Counts() []int32 { return s.count }

// At is the slots of an expert; it is the state's own.
func (s *State) At(e int32) []int32 { return s.at[e] }

// Moves is how many slots hold an expert that was not on their GPU.
func (s *State) Moves() int { return s.moves }

// Work is how many changes were looked at since Set, about.
func (s *State) Work() int { return s.work }

// Off is how many replicas are not at home.
func (s *State) Off() int { return s.off }

func (s *State) holds(g, e int32) bool {
	return s.has[int(g)*s.words+int(e>>6)]>>(e&63)&1 != 0
}

// Kept is how many of some experts were on GPUs from one to another.
func (s *State) Kept(from, to int, of []int32) (n int32) {
	for _, e := range of {
		for g := from; g < to && e >= 0; g++ {
			if s.had(int32(g), e) {
				n++
				break
			}
		}
	}
	return n
}

// missing calls do with every expert that GPU g had and has no more.
func (s *State) missing(g int32, do func(e int32)) {
	for i := range int32(s.words) {
		k := g*int32(s.words) + i
		for set := s.t.Had[k] &^ s.has[k]; set != 0; set &= set - 1 {
			do(i<<6 + int32(bits.TrailingZeros64(set)))
		}
	}
}

func (s *State) had(g, e int32) bool {
	return s.t.Prev == nil || s.t.Had[int(g)*s.words+int(e>>6)]>>(e&63)&1 != 0
}

// cost is how many moves more it takes that GPU g holds e instead of f.
func (s *State) cost(g, f, e int32) int {
	c := 0
	if e >= 0 && !s.had(g, e) {
		c++
	}
	if f >= 0 && !s.had(g, f) {
		c--
	}
	return c
}

// Change is a step: slots A and B exchange what they hold (B ≥ 0), or slot A comes
// to hold E (B = -1).
type Change struct{ A, B, E int32 }

// CostOf is the moves that a change takes.
func (s *State) CostOf(c Change) int {
	if c.B >= 0 {
		return s.cost(s.gpu[c.A], s.slot[c.A], s.slot[c.B]) + s.cost(s.gpu[c.B], s.slot[c.B], s.slot[c.A])
	}
	return s.cost(s.gpu[c.A], s.slot[c.A], c.E)
}

// Apply makes a change.
func (s *State) Apply(c Change) {
	e, f := s.slot[c.A], c.E
	if c.B >= 0 {
		f = s.slot[c.B]
	}
	if c.B >= 0 && !s.t.Nearest { // no other slot gets more or less
		g, h := int(s.gpu[c.A]), int(s.gpu[c.B])
		for k := range s.n {
			d := s.size[int(e)*s.n+k] - s.size[int(f)*s.n+k]
			s.level[g*s.n+k] -= float64(d * s.inv[g])
			s.level[h*s.n+k] += float64(d * s.inv[h])
		}
		s.swap(c)
		return
	}
	s.charge(e, -1)
	s.charge(f, -1)
	s.swap(c)
	s.deal(e)
	s.deal(f)
	s.charge(e, 1)
	s.charge(f, 1)
}

// swap makes a change but for levels.
func (s *State) swap(c Change) {
	e := s.slot[c.A]
	if c.B >= 0 {
		s.hold(c.A, s.slot[c.B])
		s.hold(c.B, e)
		return
	}
	s.hold(c.A, c.E)
	s.resize(e)
	s.resize(c.E)
}

// Try makes a change that Undo may take back.
func (s *State) Try(c Change) {
	s.was.level, s.was.gets = append(s.was.level[:0], s.level...), append(s.was.gets[:0], s.gets...)
	s.was.back = Change{c.A, c.B, s.slot[c.A]}
	s.Apply(c)
}

// Undo takes back what was tried, to the bit.
func (s *State) Undo() {
	s.swap(s.was.back)
	s.level, s.was.level = s.was.level, s.level
	s.gets, s.was.gets = s.was.gets, s.gets
}

// charge adds the replicas of e to the levels of their GPUs, sign times.
func (s *State) charge(e int32, sign float64) {
	if e < 0 {
		return
	}
	size := s.size[int(e)*s.n:][:s.n]
	for _, i := range s.at[e] {
		g := int(s.gpu[i])
		for k, x := range size {
			s.level[g*s.n+k] += float64(float64(sign*x*s.gets[i]) * s.inv[g])
		}
	}
}

// hold makes slot i hold e (-1 = nothing) but for levels.
func (s *State) hold(i, e int32) {
	g := int(s.gpu[i])
	if f := s.slot[i]; f >= 0 {
		s.tally(i, f, -1)
		s.count[f]--
		k := slices.Index(s.at[f], i)
		s.at[f] = slices.Delete(s.at[f], k, k+1)
		s.has[g*s.words+int(f>>6)] &^= 1 << (f & 63)
	}
	if s.slot[i] = e; e < 0 {
		return
	}
	s.tally(i, e, 1)
	s.count[e]++
	s.at[e] = append(s.at[e], i)
	s.has[g*s.words+int(e>>6)] |= 1 << (e & 63)
}

// May says whether a change is one, and keeps what it must.
func (s *State) May(c Change) bool {
	g, e := s.gpu[c.A], s.slot[c.A]
	if c.B < 0 {
		return !s.holds(g, c.E) && s.mayDrop(c.A) && s.mayHold(g, e, c.E)
	}
	h, f := s.gpu[c.B], s.slot[c.B]
	return !s.holds(h, e) && !s.holds(g, f) && s.mayExchange(c.A, c.B)
}

// mayDrop says whether the expert of slot i can do without it.
func (s *State) mayDrop(i int32) bool {
	e := s.slot[i]
	return e < 0 || s.count[e] > 1 && (s.t.Domain == nil || s.apart(e, i, -1))
}

// mayHold says whether homes let a slot of GPU g hold e instead of f.
func (s *State) mayHold(g, f, e int32) bool {
	if s.t.Home == nil {
		return true
	}
	d := s.offBy(g, e)
	return d == 0 || s.off+d-s.offBy(g, f) <= s.t.MostOff || d <= s.offBy(g, f)
}

// offBy is 1 where e is not at home on GPU g.
func (s *State) offBy(g, e int32) int {
	if e >= 0 && s.t.Home != nil && s.t.Home[e] >= 0 && s.t.Home[e] != int32(s.t.Node[g]) {
		return 1
	}
	return 0
}

// mayExchange says whether homes and domains let two slots exchange their experts.
func (s *State) mayExchange(i, j int32) bool {
	g, h, e, f := s.gpu[i], s.gpu[j], s.slot[i], s.slot[j]
	if s.t.Home != nil && s.t.Node[g] != s.t.Node[h] {
		d := s.offBy(h, e) + s.offBy(g, f) - s.offBy(g, e) - s.offBy(h, f)
		if d > 0 && s.off+d > s.t.MostOff {
			return false
		}
	}
	if s.t.Domain == nil || s.t.Domain[g] == s.t.Domain[h] {
		return true
	}
	return s.apart(e, i, s.t.Domain[h]) && s.apart(f, j, s.t.Domain[g])
}

// apart says whether e is in two domains without slot i (-1 = none leaves) and
// with one in the given domain (-1 = none comes).
func (s *State) apart(e, i int32, domain int) bool {
	for _, j := range s.at[e] {
		if j == i {
			continue
		}
		d := s.t.Domain[s.gpu[j]]
		if domain < 0 {
			domain = d
		} else if d != domain {
			return true
		}
	}
	return false
}
