package search

import (
	"cmp"
	"math"
	"slices"
)

// Moves for two slots a GPU and equal speeds. Given counts, the fewest GPUs that
// must be broken up are found exactly. Break those above the target; then for
// every size t of a broken replica above half the target, from the largest down,
// while more broken replicas are of at least t than there are broken partners of
// at most the target less t, break the intact pair with such a partner whose own
// larger replica is below t and smallest. The broken replicas are folded, old and
// new pairs form cycles, and going round a cycle one way every GPU keeps one of
// its two: a broken GPU costs one move.
//
// Counts come first: one copy after another goes from an expert to another while
// the fold of all replicas is above the target, where its excess falls most.

// pairMover is the memory of pairMoves.
type pairMover struct {
	order  []int32 // experts by load, largest first
	runs   []run   // experts with several copies, the largest replica first
	trial  []run
	swaps  []shift  // copies that change their expert
	apart  []bool   // of each GPU
	items  []broken // broken replicas, the largest first
	intact []int32  // GPUs by their larger replica, smallest first
	mates  []int32
}

// broken is a replica in a slot.
type broken struct {
	size float64
	slot int32
}

// pairMoves brings m to its target from the placement in force, which m is reset
// to, and says whether it could before stop.
func (s *State) pairMoves(stop func() bool) bool {
	p := &s.pair
	if !s.shiftCopies(stop) {
		return false
	}
	p.intact = p.intact[:0]
	for g := range s.inv {
		p.intact = append(p.intact, int32(g))
	}
	// Where each copy is given up and taken makes a difference: try each place.
	for _, c := range p.swaps {
		if !s.placeCopy(c.from, c.to) {
			return false
		}
	}
	for range 2 {
		for _, c := range p.swaps {
			if !stop() {
				s.replaceCopy(c.from, c.to)
			}
		}
	}
	if s.breakPairs() < 0 {
		return false
	}
	return s.foldBroken()
}

// larger is the size of the larger replica of GPU g, smaller that of the other.
func (s *State) larger(g int32) float64 {
	return max(s.size[s.slot[2*g]], s.size[s.slot[2*g+1]])
}

func (s *State) smaller(g int32) float64 {
	return min(s.size[s.slot[2*g]], s.size[s.slot[2*g+1]])
}

// breakPairs finds the GPUs to break and returns how many; -1 = the target
// cannot be reached with these counts.
func (s *State) breakPairs() int {
	p := &s.pair
	p.apart = slices.Grow(p.apart[:0], len(s.inv))[:len(s.inv)]
	p.items = p.items[:0]
	n := 0
	for g := range s.inv {
		p.apart[g] = s.size[s.slot[2*g]]+s.size[s.slot[2*g+1]] > s.over
		if p.apart[g] {
			n++
			p.items = append(p.items, broken{s.size[s.slot[2*g]], int32(2 * g)}, broken{s.size[s.slot[2*g+1]], int32(2*g + 1)})
		}
	}
	if n == 0 {
		return 0
	}
	slices.SortFunc(p.items, func(a, b broken) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.slot, b.slot)) })
	slices.SortFunc(p.intact, func(a, b int32) int { return cmp.Or(cmp.Compare(s.larger(a), s.larger(b)), cmp.Compare(a, b)) })
	lo := len(p.items) // items from here on are of at most T-t
	for hi := 0; hi < len(p.items) && p.items[hi].size > s.over/2; hi++ {
		t := p.items[hi].size
		if hi+1 < len(p.items) && p.items[hi+1].size == t {
			continue
		}
		for lo > 0 && p.items[lo-1].size <= s.over-t {
			lo--
		}
		for hi+1 > len(p.items)-lo {
			found := false
			for _, g := range p.intact {
				if p.apart[g] || s.smaller(g) > s.over-t {
					continue
				}
				if s.larger(g) >= t {
					break
				}
				found = true
				p.apart[g] = true
				n++
				for _, i := range [2]int32{2 * g, 2*g + 1} {
					it := broken{s.size[s.slot[i]], i}
					k := len(p.items)
					p.items = append(p.items, it)
					for ; k > 0 && p.items[k-1].size < it.size; k-- {
						p.items[k] = p.items[k-1]
					}
					p.items[k] = it
				}
				lo = len(p.items)
				for lo > 0 && p.items[lo-1].size <= s.over-t {
					lo--
				}
				break
			}
			if !found {
				return -1
			}
		}
	}
	return n
}

// foldBroken pairs the broken replicas anew and gives each pair a GPU that held
// one of the two.
func (s *State) foldBroken() bool {
	p := &s.pair
	n := len(p.items)
	if n == 0 {
		s.Refresh()
		return true
	}
	// Two replicas of one expert must not meet: exchange with a neighbouring pair.
	expert := func(i int) int32 { return s.slot[p.items[i].slot] }
	for i := 0; i < n/2; i++ {
		j := n - 1 - i
		if expert(i) != expert(j) {
			continue
		}
		ok := false
		for k := 0; k < n/2 && !ok; k++ {
			q := n - 1 - k
			if k == i || expert(k) == expert(j) || expert(q) == expert(i) {
				continue
			}
			if p.items[i].size+p.items[q].size <= s.over && p.items[k].size+p.items[j].size <= s.over {
				p.items[j], p.items[q] = p.items[q], p.items[j]
				ok = true
			}
		}
		if !ok {
			return false
		}
	}
	// mates[slot] = the slot of the new partner.
	p.mates = slices.Grow(p.mates[:0], len(s.slot))[:len(s.slot)]
	for i := range n / 2 {
		a, b := p.items[i].slot, p.items[n-1-i].slot
		p.mates[a], p.mates[b] = b, a
	}
	type put struct{ slot, e int32 }
	var puts []put
	for g := range s.inv {
		if !p.apart[g] {
			continue
		}
		// Walk the cycle: GPU g keeps its first replica and takes its partner.
		at := int32(2 * g)
		for p.apart[at/2] {
			p.apart[at/2] = false
			mate := p.mates[at]
			if mate/2 != at/2 {
				puts = append(puts, put{at ^ 1, s.slot[mate]})
			}
			at = mate ^ 1
		}
	}
	for _, x := range puts {
		s.hold(x.slot, -1)
	}
	for _, x := range puts {
		s.hold(x.slot, x.e)
	}
	s.Refresh()
	return true
}

// placeCopy makes one slot of f hold e, the first that may, and says whether one
// does.
func (s *State) placeCopy(f, e int32) bool {
	for _, i := range s.at[f] {
		if !s.holds(s.gpu[i], e) {
			s.hold(i, e)
			return true
		}
	}
	return false
}

// replaceCopy looks whether another slot of f had better hold e.
func (s *State) replaceCopy(f, e int32) {
	slots := slices.Clone(s.at[f])
	taken := int32(-1)
	for _, i := range s.at[e] {
		if s.t.Prev[i] == f && !s.had(s.gpu[i], e) {
			taken = i
		}
	}
	if taken < 0 {
		return
	}
	best, bestS := s.breakPairs(), int32(-1)
	if best < 0 {
		return
	}
	for _, i := range slots {
		if s.holds(s.gpu[i], e) || s.holds(s.gpu[taken], f) {
			continue
		}
		s.hold(taken, f)
		s.hold(i, e)
		if n := s.breakPairs(); n >= 0 && n < best {
			best, bestS = n, i
		}
		s.hold(i, f)
		s.hold(taken, e)
	}
	if bestS >= 0 {
		s.hold(taken, f)
		s.hold(bestS, e)
	}
}

// folded is what a fold carries above an aim.
type folded struct {
	excess float64 // summed over the pairs
	most   float64 // the fullest pair
	big    float64 // the larger of its two
}

// fold pairs the largest replica with the smallest, and so on inwards, as long
// as a pair can exceed aim or the walk has found less than enough. Replicated
// experts come from runs, the others from s.pair.order.
func (s *State) fold(runs []run, aim, enough float64) folded {
	var f folded
	top, bottom := 0, len(s.pair.order)-1 // of the experts with one replica
	hi, lo := 0, len(runs)-1              // of the runs
	var hiLeft, loLeft int32
	if lo >= 0 {
		hiLeft, loLeft = runs[0].n, runs[lo].n
	}
	s.work += len(s.inv) / 4
	for range len(s.inv) {
		for top < len(s.pair.order) && s.count[s.pair.order[top]] > 1 {
			top++
		}
		for bottom >= 0 && s.count[s.pair.order[bottom]] > 1 {
			bottom--
		}
		var a, b float64
		if hi < len(runs) && (top >= len(s.pair.order) || runs[hi].size >= s.t.Load[s.pair.order[top]]) {
			a = runs[hi].size
			if hiLeft--; hiLeft == 0 {
				if hi++; hi < len(runs) {
					hiLeft = runs[hi].n
				}
			}
		} else {
			a = s.t.Load[s.pair.order[top]]
			top++
		}
		if lo >= 0 && (bottom < 0 || runs[lo].size <= s.t.Load[s.pair.order[bottom]]) {
			b = runs[lo].size
			if loLeft--; loLeft == 0 {
				if lo--; lo >= 0 {
					loLeft = runs[lo].n
				}
			}
		} else {
			b = s.t.Load[s.pair.order[bottom]]
			bottom--
		}
		x := a + b
		if x > f.most {
			f.most, f.big = x, a
		}
		if x > aim {
			f.excess += x - aim
			if f.excess >= enough {
				return f
			}
		}
		if a <= aim/2 {
			return f
		}
	}
	return f
}

// shiftCopies changes counts until their fold is within the target and says
// whether it got there before stop; p.swaps lists the changes.
func (s *State) shiftCopies(stop func() bool) bool {
	p := &s.pair
	p.swaps = p.swaps[:0]
	s.listRuns()
	for now := s.fold(p.runs, s.over, math.Inf(1)); now.excess > 0; {
		big, small := now.big, s.over-now.big
		bestE, bestF, best := int32(-1), int32(-1), now
		rate := 0.0
		for _, f := range p.runs {
			if stop() {
				return false
			}
			// Each copy of f that is left would exceed the target by this much.
			left := float64(f.n - 1)
			if x := s.t.Load[f.id]/left - s.over; x > 0 && x*left >= best.excess {
				continue
			}
			s.count[f.id]--
			fillers := 0
			for _, e := range p.order {
				c := s.count[e]
				x, y := s.t.Load[e]/float64(c), s.t.Load[e]/float64(c+1)
				// A further copy of e must take big replicas away or add small ones.
				if e == f.id || int(c) >= len(s.inv) || (x < big && y > small) {
					continue
				}
				if x <= small {
					// Which cold expert is cut for one filler more matters little.
					if fillers++; fillers > 3 {
						break
					}
				}
				s.count[e]++
				p.trial = p.trial[:0]
				for _, r := range p.runs {
					if r.id != e && r.id != f.id {
						p.trial = append(p.trial, r)
					}
				}
				p.trial = insertRun(p.trial, run{y, e, c + 1})
				if f.n > 2 {
					p.trial = insertRun(p.trial, run{s.t.Load[f.id] / left, f.id, f.n - 1})
				}
				enough := now.excess
				if s.rng == nil {
					enough = best.excess
				}
				if v := s.fold(p.trial, s.over, enough); v.excess < now.excess {
					gain := now.excess - v.excess
					if s.rng != nil {
						gain *= s.luck()
					}
					if gain > rate {
						rate = gain
						bestE, bestF, best = e, f.id, v
					}
				}
				s.count[e]--
			}
			s.count[f.id]++
		}
		if bestE < 0 {
			return false
		}
		s.count[bestE]++
		s.count[bestF]--
		p.swaps = append(p.swaps, shift{bestF, bestE})
		s.listRuns()
		now = best
	}
	for e := range s.count {
		s.resize(int32(e))
	}
	return true
}

// listRuns lists the experts with several copies by the size of a replica.
func (s *State) listRuns() {
	s.pair.runs = s.pair.runs[:0]
	for e, n := range s.count {
		if n > 1 {
			s.pair.runs = insertRun(s.pair.runs, run{s.t.Load[e] / float64(n), int32(e), n})
		}
	}
}

// sortLoads sorts the experts by load, largest first, ties by index.
func (s *State) sortLoads() {
	p := &s.pair
	p.order = p.order[:0]
	for e := range s.count {
		p.order = append(p.order, int32(e))
	}
	slices.SortStableFunc(p.order, func(a, b int32) int { return cmp.Compare(s.t.Load[b], s.t.Load[a]) })
}

// shift is a copy that changes its expert.
type shift struct{ from, to int32 }

// run is an expert with n replicas.
type run struct {
	size float64
	id   int32
	n    int32
}

// insertRun inserts x into runs, the largest size first, ties by index.
func insertRun(runs []run, x run) []run {
	runs = append(runs, x)
	i := len(runs) - 1
	for ; i > 0 && (runs[i-1].size < x.size || (runs[i-1].size == x.size && runs[i-1].id > x.id)); i-- {
		runs[i] = runs[i-1]
	}
	runs[i] = x
	return runs
}

// Pairs walks from a layout of two slots a GPU, all of one speed, to the goal at
// once, where there is one window.
func (s *State) Pairs(f *Front, from []int32, seed uint64, goal Goal) {
	s.Start(from)
	s.over = goal.Time
	s.seed(seed)
	s.sortLoads()
	if s.pairMoves(goal.Stop) {
		f.begin(s)
	}
	s.rng = nil
}
