package search

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// scan looks for the change at the fullest GPUs that lowers the objective most a
// move. A change that takes no move, or gives one back, counts as half a move.
//
// What one copy more of an expert takes off its holders, and one less adds to
// them, is worked out once a scan; for GPUs that hold both experts of a change
// the sum of the two is never less than what the change adds, so that no gain is
// promised that is not there. The fullest GPU itself is always worked out
// exactly: its power is most of the total. What a slot adds at least when it gives
// up its expert is worked out once too: most changes end there.
type scan struct {
	hot    []int32
	isHot  []bool    // with onward, those too that were of no use since they were last cleared
	onward bool      // where the fullest GPUs are of no use the next are looked at
	again  bool      // a change was made since isHot was cleared
	fixed  bool      // counts stay as they are
	rest   []float64 // total without the hot GPU, [windows]
	more   []float64 // what its holders add where an expert has one copy less, [experts][windows]
	less   []float64 // and take off where it has one more
	floor  []float64 // what each window adds to the objective at least, [windows]
	trial  []float64 // total after the change looked at, [windows]
	spare  []int32   // slots that can do without what they hold
	price  []float64 // and what it adds to totals at least that they do, [spare][windows]
	alone  []float64 // total where an expert has one copy more that weighs nothing, [windows]

	now   float64
	most  int        // moves that no change may pass
	forks int        // how many changes are looked for
	best  []gain     // those found, of the best rates, which fall
	least [3]float64 // what the objective must be below to be one of them, by moves
	limit [3]float64 // and its total, where there is one window
	work  int        // changes looked at since Set
}

// gain is a change, the objective after it, and what it gains a move.
type gain struct {
	Change
	value, rate float64
}

func (p *scan) set(s *State) {
	p.isHot = memory.Resize(p.isHot, len(s.inv))
	p.rest = memory.Resize(p.rest, s.n)
	p.more = memory.Resize(p.more, len(s.size))
	p.less = memory.Resize(p.less, len(s.size))
	p.floor = memory.Resize(p.floor, s.n)
	p.alone = memory.Resize(p.alone, s.n)
	p.trial = memory.Resize(p.trial, s.n)
}

// weight of moves by their number.
var weight = [3]float64{.5, 1, 2}

// Forward finds the change that gains most a move; ok is false if none gains more
// than least a move, or the objective is 0.
func (s *State) Forward(least float64) (c Change, ok bool) { return s.forward(least, true, !s.fixed) }

// forward is Forward, with exchanges or without, and with copies or without.
func (s *State) forward(least float64, exchanges, copies bool) (c Change, ok bool) {
	s.now = s.weigh()
	s.best = s.best[:0]
	s.setRate(least)
	if s.hot = s.hot[:0]; !s.onward {
		clear(s.isHot)
	}
	s.spare = s.spare[:0]
	for i := range s.slot {
		if s.mayDrop(int32(i)) {
			s.spare = append(s.spare, int32(i))
		}
	}
	last := int32(-1)
	for len(s.best) == 0 && s.listHot() {
		for _, h := range s.hot {
			s.work += 2*len(s.slot) + len(s.inv)
			s.prepare(h, last)
			last = h
			if exchanges {
				s.scanExchanges(h)
			}
			if copies {
				s.scanCopies(h)
				s.scanDrops(h)
			}
		}
	}
	if s.again = len(s.best) > 0; !s.again {
		return c, false
	}
	if s.onward {
		s.isHot[last] = false
	}
	return s.best[0].Change, true
}

// setRate makes x the gain a move to beat.
func (s *State) setRate(x float64) {
	for i, m := range weight {
		s.least[i] = s.now - float64(x*m) - 1e-13
		if s.moves+i > s.most {
			s.least[i] = 0
		}
		s.limit[i] = s.unroot(s.least[i])
	}
}

// offer keeps a change of so many moves after which the windows' totals are s.trial.
func (s *State) offer(c Change, cost int) {
	v := 0.0
	for k, a := range s.t.Share {
		v += float64(a * s.root(s.trial[k]))
	}
	if v >= s.least[cost] {
		return // where there are several windows, the bound promised more
	}
	g := gain{c, v, (s.now - v) / weight[cost]}
	i := len(s.best)
	for i > 0 && s.best[i-1].rate < g.rate {
		i--
	}
	if s.best = slices.Insert(s.best, i, g); len(s.best) >= s.forks {
		s.best = s.best[:s.forks]
		s.setRate(s.best[s.forks-1].rate)
	}
}

// listHot lists the fullest GPUs of every window: two where there is one
// window, unless the path goes by the overload. It says whether there is one that was not
// looked at: a path that goes onward is told of one after another, and of all once more
// after the changes that others made.
func (s *State) listHot() bool {
	if len(s.hot) > 0 && !s.onward {
		return false
	}
	each, least := max(1, 2/s.n), 0.0
	if s.twice == 0 {
		each, least = 1, s.over
	}
	s.hot = s.hot[:0]
	for k := range s.n {
		for range each {
			h, top := -1, least
			for g := range s.inv {
				if x := s.level[g*s.n+k]; x > top && !(s.isHot[g] && s.n == 1) {
					h, top = g, x
				}
			}
			if h >= 0 && !s.isHot[h] {
				s.isHot[h] = true
				s.hot = append(s.hot, int32(h))
			}
		}
	}
	if len(s.hot) == 0 && s.again {
		s.again = false
		clear(s.isHot)
		return s.listHot()
	}
	return len(s.hot) > 0
}

// prepare works out what copies more and less do to all GPUs but h. last is the GPU
// that it was called for before, since the latest change: only experts of the two
// are looked at anew; -1 = none.
func (s *State) prepare(h, last int32) {
	n := s.n
	clear(s.rest)
	for i, x := range s.power {
		if i/n != int(h) {
			s.rest[i%n] += x
		}
	}
	for e, c := range s.count {
		if last >= 0 && !s.holds(h, int32(e)) && !s.holds(last, int32(e)) {
			continue
		}
		more, less := s.more[e*n:][:n], s.less[e*n:][:n]
		clear(more)
		clear(less)
		up, down := 1/float64(max(c-1, 1)), 1/float64(c+1)
		for _, i := range s.at[e] {
			g := s.gpu[i]
			if g == h {
				continue
			}
			for k, x := range s.size[e*n:][:n] {
				l, p := s.level[int(g)*n+k], s.power[int(g)*n+k]
				x *= s.inv[g]
				less[k] += s.raise(l-float64(x*down)) - p
				if c > 1 {
					more[k] += s.raise(l+float64(x*up)) - p
				}
			}
		}
	}
}

// scanExchanges considers replicas of GPU h for others elsewhere.
func (s *State) scanExchanges(h int32) {
	for i := range s.inv {
		g := int32(i)
		if g == h || s.n == 1 && s.level[h] <= s.level[g] {
			continue
		}
		mayCome := s.t.Prev == nil || s.away[h]+s.away[g] > 0
		least := s.least[2] // no expert to come home
		if mayCome {
			least = slices.Max(s.least[:])
		}
		if even := s.even(h, g); even < least {
			s.scanPair(h, g, mayCome, even)
		}
	}
}

// scanPair considers exchanges of GPUs h and g, after even.
func (s *State) scanPair(h, g int32, mayCome bool, even float64) {
	first := s.t.First
	for i := first[h]; i < first[h+1]; i++ {
		e := s.slot[i]
		if e < 0 || s.holds(g, e) {
			continue
		}
		s.work += (first[g+1] - first[g]) * s.n
		for j := first[g]; j < first[g+1]; j++ {
			f := s.slot[j]
			if f < 0 || s.n == 1 && s.size[e] <= s.size[f] {
				continue
			}
			cost := 2
			if mayCome {
				cost = max(0, s.cost(h, e, f)+s.cost(g, f, e))
			}
			if s.exchanged(h, g, e, f, cost, even) && !s.holds(h, f) && s.mayExchange(int32(i), int32(j)) {
				s.offer(Change{int32(i), int32(j), -1}, cost)
			}
		}
	}
}

// exchanged sets s.trial to what becomes of the totals where h gives e to g for f. It
// returns false where that is not enough, of what moves cost; v is what s.floor adds
// up to.
func (s *State) exchanged(h, g, e, f int32, cost int, v float64) bool {
	n := s.n
	se, sf := s.size[int(e)*n:][:n], s.size[int(f)*n:][:n]
	lh, lg := s.level[int(h)*n:][:n], s.level[int(g)*n:][:n]
	vh, vg, need := s.inv[h], s.inv[g], s.least[cost]
	for k := range se {
		d := se[k] - sf[k]
		x := s.others(h, g, k) + s.raise(lh[k]-float64(d*vh)) + s.raise(lg[k]+float64(d*vg))
		if n == 1 {
			s.trial[0] = x
			return x < s.limit[cost]
		}
		s.trial[k] = x
		if v += s.bound(k, x) - s.floor[k]; v >= need {
			return false
		}
	}
	return true
}

// others is the total of window k without GPUs h and g, after prepare(h).
func (s *State) others(h, g int32, k int) float64 {
	p := s.power[int(g)*s.n+k]
	if x := s.rest[k] - p; x > 1e-3*p {
		return x
	}
	x := 0.0 // what is left of the difference is mostly rounding
	for i := k; i < len(s.power); i += s.n {
		if q := i / s.n; q != int(h) && q != int(g) {
			x += s.power[i]
		}
	}
	return x
}

// even is what the objective cannot fall below by exchanges between g and h, and
// s.floor what each window adds to it.
func (s *State) even(h, g int32) float64 {
	n := s.n
	clear(s.floor)
	if s.inv[h] != s.inv[g] {
		return 0
	}
	v := 0.0
	for k, a := range s.t.Share {
		i := int(g)*n + k
		s.floor[k] = float64(a * s.root(s.others(h, g, k)+float64(2*s.raise((s.level[int(h)*n+k]+s.level[i])/2))))
		v += s.floor[k]
	}
	return v
}

// scanCopies considers one copy more, elsewhere, of what GPU h holds.
func (s *State) scanCopies(h int32) {
	s.priceSlots(h)
	n := s.n
	for i := s.t.First[h]; i < s.t.First[h+1]; i++ {
		e := s.slot[i]
		if e < 0 || int(s.count[e]) >= len(s.inv) {
			continue
		}
		for k := range n {
			x := s.level[int(h)*n+k] - float64(s.size[int(e)*n+k]/float64(s.count[e]+1)*s.inv[h])
			s.alone[k] = s.rest[k] + s.less[int(e)*n+k] + s.raise(x)
		}
		s.work += len(s.spare)
		for at, j := range s.spare {
			g, f := s.gpu[j], s.slot[j]
			if g == h || !s.below(s.alone, s.price[at*n:], 0) || s.holds(g, e) || !s.mayHold(g, f, e) {
				continue
			}
			if cost := max(0, s.cost(g, f, e)); cost == 0 || s.below(s.alone, s.price[at*n:], cost) {
				s.replace(h, j, e)
			}
		}
	}
}

// priceSlots works out what it adds to the totals at least that a slot gives up its
// expert for one of GPU h.
func (s *State) priceSlots(h int32) {
	n := s.n
	s.price = memory.Resize(s.price, len(s.spare)*n)
	for k := range n {
		come := math.Inf(1) // at least
		for _, e := range s.slot[s.t.First[h]:s.t.First[h+1]] {
			if e >= 0 {
				come = min(come, s.size[int(e)*n+k]/(1+1/float64(s.count[e])))
			}
		}
		for at, j := range s.spare {
			g, f := int(s.gpu[j]), int(s.slot[j])
			l, p, x := s.level[g*n+k], s.power[g*n+k], 0.0
			if f >= 0 {
				sf := s.size[f*n+k]
				x = s.more[f*n+k] - s.raise(l+float64(sf/float64(s.count[f]-1)*s.inv[g])) + p
				l -= float64(sf * s.inv[g])
			}
			s.price[at*n+k] = x + s.raise(max(0, l+float64(come*s.inv[g]))) - p
		}
	}
}

// below says whether the sum of two parts of the totals gains enough, of what moves cost.
func (s *State) below(a, b []float64, cost int) bool {
	if s.n == 1 {
		return a[0]+b[0] < s.limit[cost]
	}
	v := 0.0
	for k, x := range a[:s.n] {
		if v += s.bound(k, max(0, x+b[k])); v >= s.least[cost] {
			return false
		}
	}
	return true
}

// scanDrops considers other experts for slots of GPU h that can do without theirs.
func (s *State) scanDrops(h int32) {
	for i := s.t.First[h]; i < s.t.First[h+1]; i++ {
		f := s.slot[i]
		if f < 0 || !s.mayDrop(int32(i)) {
			continue
		}
		s.work += 2 * len(s.count)
		for e := range int32(len(s.count)) {
			if !s.holds(h, e) && s.mayHold(h, f, e) {
				s.replace(h, int32(i), e)
			}
		}
	}
}

// replace considers e for slot j, after prepare(h).
func (s *State) replace(h, j, e int32) {
	g, f := s.gpu[j], s.slot[j]
	n, v := s.n, 0.0
	c := float64(s.count[e])
	down, come := 1/(c+1), c/(c+1)
	up, onF := 0.0, false
	if f >= 0 {
		up = 1 / float64(s.count[f]-1)
		onF = s.holds(h, f)
	}
	onE := s.holds(h, e)
	for k := range n {
		se, sf := s.size[int(e)*n+k], 0.0
		total := s.rest[k] + s.less[int(e)*n+k]
		if f >= 0 {
			sf = s.size[int(f)*n+k]
			total += s.more[int(f)*n+k]
		}
		lh := s.level[int(h)*n+k]
		if g == h {
			lh += float64((float64(se*come) - sf) * s.inv[h])
		} else {
			if onE {
				lh -= float64(float64(se*down) * s.inv[h])
			}
			i := int(g)*n + k
			lg := s.level[i]
			if f >= 0 {
				total -= s.raise(lg+float64(float64(sf*up)*s.inv[g])) - s.power[i]
			}
			if onF {
				lh += float64(float64(sf*up) * s.inv[h])
			}
			total += s.raise(lg+float64((float64(se*come)-sf)*s.inv[g])) - s.power[i]
		}
		total = max(0, total) + s.raise(lh)
		s.trial[k] = total
		// Most end here, before their moves are looked up.
		if n == 1 {
			if total >= s.limit[0] {
				return
			}
		} else if v += s.bound(k, total); v >= s.least[0] {
			return
		}
	}
	if cost := max(0, s.cost(g, f, e)); n > 1 || s.trial[0] < s.limit[cost] {
		s.offer(Change{j, -1, e}, cost)
	}
}
