package search

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// Annealer draws changes at random and takes those that raise the objective by
// little too, less and less of it: what a descent from a good placement cannot
// leave, a few thousand such draws often can.
type Annealer struct {
	s     *State
	rng   rand.PCG
	order []int32 // experts by load, largest first
	key   []float64
	fits  []int32 // slots that can do without what they hold
	full  []int32 // GPUs above the threshold, in the window at hand
	moved []int32 // slots whose expert was not there
	kept  []int32
	time  float64 // of kept
}

// mostHeat is the rise of the objective that is hardly minded at first.
const mostHeat = .02

// coolings is how often an annealing grows colder.
const coolings = 64

// Anneal draws so many changes of the placement at hand, full and allowed, which
// cost nothing, and leaves the best that it passed at hand. With one window it
// lowers the overload above a threshold, which sinks a part of the way to the goal
// whenever no GPU is above it; with several the norm of the power 16. It ends
// early where the time is within goal, or on stop. The draws are the same for
// every layer.
func (a *Annealer) Anneal(s *State, draws int, goal float64, stop func() bool) {
	a.s = s
	a.rng.Seed(uint64(len(s.slot)), uint64(draws))
	a.start()
	if s.n > 1 {
		s.twice = 4
	}
	heat := min(mostHeat, 1.5/float64(len(s.inv)))
	if s.n > 1 {
		heat = 2e-3
	}
	a.sink(goal)
	for range coolings {
		if a.time <= goal || stop() {
			break
		}
		for range draws / coolings {
			s.work++
			c, ok := a.draw()
			if !ok {
				continue
			}
			need := s.now + float64(heat*unlikely[a.rng.Uint64()>>56])
			if _, ok := s.after(c, need); ok {
				s.Apply(c)
				if a.survey(); a.keepBest() {
					if a.time <= goal {
						break
					}
					a.sink(goal)
				}
			}
		}
		heat *= .888 // to 1/2000
	}
	s.Start(a.kept)
}

// moveHeat is the number of moves more that is hardly minded by Fewer.
const moveHeat = .3

// Fewer draws so many changes of the placement at hand, whose time is within goal,
// and leaves the one of fewest moves that it passed within goal at hand, or where
// none has fewer, the last. There is one window. A move counts as much as so much
// overload at first, then less and less. least moves are few enough.
func (a *Annealer) Fewer(s *State, draws int, goal, move float64, least int, stop func() bool) {
	a.s = s
	a.rng.Seed(uint64(len(s.slot)), uint64(draws))
	a.start()
	s.twice, s.over = 0, goal
	was, best := s.moves, s.moves
	a.survey()
	for range coolings {
		if best <= least || stop() {
			break
		}
		for range draws / coolings {
			s.work++
			c, ok := a.drawBack()
			if !ok {
				continue
			}
			need := s.now + float64((float64(moveHeat*unlikely[a.rng.Uint64()>>56])-float64(s.costOf(c)))*move)
			if _, ok := s.after(c, need); ok {
				s.Apply(c)
				a.survey()
				if s.moves < best && len(a.full) == 0 {
					best = s.moves
					copy(a.kept, s.slot)
				}
			}
		}
		move *= .93 // to 1/100
	}
	if best == was {
		return // not yet within the goal
	}
	s.Start(a.kept)
}

// drawBack proposes that an expert comes back to a GPU where it was, or a change at
// a full GPU.
func (a *Annealer) drawBack() (c Change, ok bool) {
	s := a.s
	if len(a.full) > 0 && a.intN(2) == 0 {
		return a.draw()
	}
	if len(a.moved) == 0 {
		return c, false
	}
	i := a.moved[a.intN(len(a.moved))]
	g, e := s.gpu[i], s.slot[i]
	x := int32(-1)
	for k, n := 0, 0; k < s.words; k++ {
		gone := s.t.Had[int(g)*s.words+k] &^ s.has[int(g)*s.words+k]
		for ; gone != 0; gone &= gone - 1 {
			if n++; a.intN(n) == 0 {
				x = int32(k<<6 + bits.TrailingZeros64(gone))
			}
		}
	}
	if x < 0 {
		return c, false
	}
	if k := a.intN(len(s.at[x]) + 1); k < len(s.at[x]) {
		j := s.at[x][k]
		return Change{i, j, -1}, !s.holds(s.gpu[j], e) && s.mayExchange(i, j)
	}
	return Change{i, -1, x}, s.mayDrop(i) && s.mayHold(g, e, x)
}

// start keeps the placement at hand and sorts the experts.
func (a *Annealer) start() {
	s := a.s
	s.Refresh()
	a.kept = append(a.kept[:0], s.slot...)
	a.time = s.Time()
	t := s.t
	a.key = memory.Resize(a.key, t.Experts)
	clear(a.key)
	for i, x := range t.Load {
		a.key[i/s.n] += float64(x * t.Share[i%s.n])
	}
	a.order = a.order[:0]
	for e := range t.Experts {
		a.order = append(a.order, int32(e))
	}
	slices.SortStableFunc(a.order, func(x, y int32) int {
		switch {
		case a.key[x] > a.key[y]:
			return -1
		case a.key[x] < a.key[y]:
			return 1
		}
		return 0
	})
}

// sink lowers the threshold and surveys the placement at hand.
func (a *Annealer) sink(goal float64) {
	s := a.s
	if s.n == 1 {
		t := a.time
		s.twice, s.over = 0, max(goal, t-max(float64((t-goal)*sinking), 1e-5))
	}
	a.survey()
}

// sinking is the part of the way to the goal that a threshold sinks.
const sinking = .03

// survey readies draws from the placement at hand.
func (a *Annealer) survey() {
	s := a.s
	s.now = s.weigh()
	a.fits, a.moved = a.fits[:0], a.moved[:0]
	for i, e := range s.slot {
		if s.t.Prev != nil && !s.had(s.gpu[i], e) {
			a.moved = append(a.moved, int32(i))
		}
		if s.mayDrop(int32(i)) {
			a.fits = append(a.fits, int32(i))
		}
	}
	a.full = a.full[:0]
	if s.n == 1 {
		for g, x := range s.level {
			if x > s.over {
				a.full = append(a.full, int32(g))
			}
		}
	}
}

// keepBest keeps the placement at hand if it is the best, and says whether it was.
func (a *Annealer) keepBest() bool {
	s := a.s
	if t := s.Time(); t < a.time-1e-9 {
		s.Refresh()
		a.time = s.Time()
		copy(a.kept, s.slot)
		return true
	}
	return false
}

func (a *Annealer) intN(n int) int { return int(a.rng.Uint64() >> 32 * uint64(n) >> 32) }

// draw proposes a change at a full GPU: an exchange with the replica elsewhere of
// the size that would help, a copy more of one of its experts, or an expert of the
// size that would help in place of a copy.
func (a *Annealer) draw() (c Change, ok bool) {
	s := a.s
	t := s.t
	h, k := int32(0), 0
	if s.n == 1 {
		if len(a.full) == 0 {
			return c, false
		}
		h = a.full[a.intN(len(a.full))]
	} else {
		k = a.intN(s.n)
		top := 0.0
		for g := range s.inv {
			if x := s.level[g*s.n+k]; x > top {
				h, top = int32(g), x
			}
		}
	}
	room := t.First[h+1] - t.First[h]
	if room == 0 {
		return c, false
	}
	i := int32(t.First[h] + a.intN(room))
	e := s.slot[i]
	size := s.size[int(e)*s.n+k]
	kind := a.intN(8)
	if kind > 1 || len(a.fits) == 0 {
		g := int32(a.intN(len(s.inv)))
		if g == h || s.holds(g, e) || t.First[g] == t.First[g+1] {
			return c, false
		}
		want := size - a.ease(h, g, k)
		j := s.nearest(g, k, want)
		f := s.slot[j]
		if s.holds(h, f) || !s.mayExchange(i, j) {
			return c, false
		}
		return Change{i, j, -1}, true
	}
	if kind == 0 { // one copy more of e
		j := a.fits[a.intN(len(a.fits))]
		g := s.gpu[j]
		if s.holds(g, e) || !s.mayHold(g, s.slot[j], e) {
			return c, false
		}
		return Change{j, -1, e}, true
	}
	if !s.mayDrop(i) {
		return c, false
	}
	x := a.ofSize(float64((size - a.ease(h, h, k)) * float64(1+a.intN(3)+1)))
	if s.holds(h, x) || !s.mayHold(h, e, x) {
		return c, false
	}
	return Change{i, -1, x}, true
}

// ease is how much load GPU h should lose to g: up to what is above the threshold,
// or half of what lies between them.
func (a *Annealer) ease(h, g int32, k int) float64 {
	s := a.s
	u := float64(a.rng.Uint64()>>11) / (1 << 53)
	lh, lg := s.level[int(h)*s.n+k], s.level[int(g)*s.n+k]
	if s.n == 1 {
		d := (lh - s.over) / s.inv[h]
		return float64(d * (.5 + u))
	}
	if g == h {
		return float64((lh - 1) * u)
	}
	return float64((lh - lg) / (s.inv[h] + s.inv[g]) * 2 * u)
}

// nearest is the slot of GPU g whose replica is nearest to a size.
func (s *State) nearest(g int32, k int, size float64) int32 {
	best, off := int32(-1), math.Inf(1)
	for j := s.t.First[g]; j < s.t.First[g+1]; j++ {
		if d := math.Abs(s.size[int(s.slot[j])*s.n+k] - size); d < off {
			best, off = int32(j), d
		}
	}
	return best
}

// ofSize is an expert whose load is near x.
func (a *Annealer) ofSize(x float64) int32 {
	lo, hi := 0, len(a.order)
	for lo < hi {
		if mid := (lo + hi) / 2; a.key[a.order[mid]] > x {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return a.order[min(max(lo+a.intN(5)-2, 0), len(a.order)-1)]
}

// unlikely is -ln((i+1/2)/256), by steps that round alike everywhere.
var unlikely = func() (t [256]float64) {
	for i := range t {
		x := (float64(i) + .5) / 256
		n := 0
		for x < .5 {
			x, n = 2*x, n+1
		}
		// ln x = 2·(y + y³/3 + y⁵/5 + …) with y = (x-1)/(x+1)
		y := (x - 1) / (x + 1)
		sum, p := 0.0, y
		for k := 1.0; k < 40; k += 2 {
			sum += float64(p / k)
			p = float64(float64(p*y) * y)
		}
		t[i] = float64(float64(n)*.6931471805599453) - float64(2*sum)
	}
	return t
}()
