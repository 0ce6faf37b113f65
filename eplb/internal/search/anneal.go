package search

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"

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
	fits  list // slots that can do without what they hold
	full  list // GPUs and windows above the threshold
	moved list // slots whose expert was not there
	kept  []int32
	time  float64 // of kept
}

// mostHeat is the rise of the objective that is hardly minded at first.
const mostHeat = .02

// coolings is how often an annealing grows colder.
const coolings = 64

// Anneal draws so many changes of the placement at hand, full and allowed, which
// cost nothing, and leaves the best that it passed at hand. There is one window. It
// lowers the overload above a threshold, which sinks a part of the way to the goal
// whenever no GPU is above it. It ends early where the time is within goal, or on
// stop. The draws are the same for every layer.
func (a *Annealer) Anneal(s *State, draws int, goal float64, stop func() bool) {
	a.start(s, draws)
	heat := min(mostHeat, 1.5/float64(len(s.inv)))
	if a.time <= goal || stop() {
		return
	}
	a.sink(goal)
	a.cool(draws, a.draw, func(Change) float64 { return float64(heat * a.unlikely()) }, func() (end bool) {
		if !a.keepBest() || a.time <= goal {
			return a.time <= goal
		}
		a.sink(goal)
		return false
	}, func() (end bool) {
		heat *= .888 // to 1/2000
		return a.time <= goal || stop()
	})
	s.Start(a.kept)
}

const (
	// FirstDraws is how many changes are drawn first where much is to be gained.
	FirstDraws = 1 << 12
	// lastDraws is how many are drawn at most.
	lastDraws = 1 << 14
	// goOn is the gain that makes another round, of twice as many draws, worth its time.
	goOn = 2e-5
)

// Lower anneals the placement at hand until it is within goal, as long as that pays.
func (a *Annealer) Lower(s *State, draws int, goal float64, stop func() bool) {
	for was := s.Time(); draws <= lastDraws && was > goal && !stop(); draws *= 2 {
		a.Anneal(s, draws, goal, stop)
		t := s.Time()
		if was-t < goOn {
			return
		}
		was = t
	}
}

// cool makes so many draws and takes changes that raise the objective by no more than
// rise says, until took or colder, which is asked coolings times, ends it.
func (a *Annealer) cool(draws int, draw func() (Change, bool), rise func(Change) float64, took, colder func() (end bool)) {
	s := a.s
	for range coolings {
		for range draws / coolings {
			s.work++
			c, ok := draw()
			if !ok {
				continue
			}
			if _, ok := s.after(c, s.now+rise(c)); ok {
				if a.apply(c); took() {
					break
				}
			}
		}
		s.Refresh()
		a.survey()
		if colder() {
			return
		}
	}
}

// unlikely is how much a change may harm, in heats.
func (a *Annealer) unlikely() float64 { return Unlikely(a.rng.Uint64()) }

// Unlikely makes of random bits a number of mean 1 that is seldom large.
func Unlikely(bits uint64) float64 { return unlikely[bits>>56] }

// start seeds the draws, keeps the placement at hand and sorts the experts.
func (a *Annealer) start(s *State, draws int) {
	a.s = s
	a.rng.Seed(uint64(len(s.slot)), uint64(draws))
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
	slices.SortStableFunc(a.order, func(x, y int32) int { return cmp.Compare(a.key[y], a.key[x]) })
}

// sink lowers the threshold and surveys the placement at hand.
func (a *Annealer) sink(goal float64) {
	a.s.twice, a.s.over = 0, max(goal, a.time-max(float64((a.time-goal)*sinking), 1e-5))
	a.survey()
}

// sinking is the part of the way to the goal that a threshold sinks.
const sinking = .03

// survey readies draws from the placement at hand.
func (a *Annealer) survey() {
	s := a.s
	s.now = s.weigh()
	a.fits.reset(len(s.slot))
	a.moved.reset(len(s.slot))
	a.full.reset(len(s.level))
	for i := range s.slot {
		a.mark(int32(i))
	}
	if s.twice == 0 {
		for i, x := range s.level {
			a.full.set(int32(i), x > s.over)
		}
	}
}

// mark lists slot i where it belongs. One that is empty, as where groups leave room on
// their nodes, can do without what it holds.
func (a *Annealer) mark(i int32) {
	s := a.s
	e := s.slot[i]
	a.moved.set(i, e >= 0 && s.t.Prev != nil && !s.had(s.gpu[i], e))
	a.fits.set(i, s.mayDrop(i))
}

// apply makes a change and keeps what draws need up to date.
func (a *Annealer) apply(c Change) {
	s := a.s
	e, f := s.slot[c.A], c.E
	if c.B >= 0 {
		f = s.slot[c.B]
	}
	s.Apply(c)
	a.mark(c.A)
	if c.B >= 0 {
		a.mark(c.B)
		a.weigh(s.gpu[c.B])
	}
	a.weigh(s.gpu[c.A])
	if c.B < 0 || s.t.Domain != nil {
		for _, x := range [2]int32{e, f} {
			if x < 0 {
				continue
			}
			for _, i := range s.at[x] {
				a.mark(i)
				a.weigh(s.gpu[i])
			}
		}
	}
	s.now = 0
	for k, share := range s.t.Share {
		s.now += float64(share * s.root(max(0, s.total[k])))
	}
}

// weigh brings the powers of GPU g up to date.
func (a *Annealer) weigh(g int32) {
	s := a.s
	for k := range s.n {
		i := int(g)*s.n + k
		y := s.raise(s.level[i])
		s.total[k] += y - s.power[i]
		s.power[i] = y
		if s.twice == 0 {
			a.full.set(int32(i), s.level[i] > s.over)
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
	h, k, ok := a.drawFull()
	if !ok {
		return c, false
	}
	room := s.t.First[h+1] - s.t.First[h]
	if room == 0 {
		return c, false
	}
	i := int32(s.t.First[h] + a.intN(room))
	kind := a.intN(8)
	switch {
	case s.slot[i] < 0:
		return c, false
	case kind > 1 || len(a.fits.all) == 0:
		return a.drawExchange(h, i, k)
	case kind == 0: // one copy more
		c = Change{a.fits.all[a.intN(len(a.fits.all))], -1, s.slot[i]}
		return c, s.May(c)
	case !s.mayDrop(i):
		return c, false
	}
	size := s.size[int(s.slot[i])*s.n+k]
	c = Change{i, -1, a.ofSize(float64((size - a.ease(h, h, k)) * float64(1+a.intN(3)+1)))}
	return c, s.May(c)
}

// drawFull draws a GPU that is full in some window.
func (a *Annealer) drawFull() (h int32, k int, ok bool) {
	s := a.s
	if s.twice == 0 {
		if len(a.full.all) == 0 {
			return 0, 0, false
		}
		i := int(a.full.all[a.intN(len(a.full.all))])
		return int32(i / s.n), i % s.n, true
	}
	k = a.intN(s.n)
	top := 0.0
	for g := range s.inv {
		if x := s.level[g*s.n+k]; x > top {
			h, top = int32(g), x
		}
	}
	return h, k, true
}

// drawExchange proposes that slot i of GPU h changes its replica for one elsewhere.
func (a *Annealer) drawExchange(h, i int32, k int) (c Change, ok bool) {
	s := a.s
	e := s.slot[i]
	g := int32(a.intN(len(s.inv)))
	if g == h || s.holds(g, e) || s.t.First[g] == s.t.First[g+1] {
		return c, false
	}
	c = Change{i, s.nearest(g, k, s.size[int(e)*s.n+k]-a.ease(h, g, k)), -1}
	return c, c.B >= 0 && s.May(c)
}

// ease is how much load GPU h should lose to g: up to what is above the threshold,
// or half of what lies between them.
func (a *Annealer) ease(h, g int32, k int) float64 {
	s := a.s
	u := float64(a.rng.Uint64()>>11) / (1 << 53)
	lh, lg := s.level[int(h)*s.n+k], s.level[int(g)*s.n+k]
	if s.twice == 0 {
		d := (lh - s.over) / s.inv[h]
		return float64(d * (.5 + u))
	}
	if g == h {
		return float64((lh - 1) * u)
	}
	return float64((lh - lg) / (s.inv[h] + s.inv[g]) * 2 * u)
}

// nearest is the slot of GPU g whose replica is nearest to a size; -1 = it has none.
func (s *State) nearest(g int32, k int, size float64) int32 {
	best, off := int32(-1), math.Inf(1)
	for j := s.t.First[g]; j < s.t.First[g+1]; j++ {
		if e := s.slot[j]; e >= 0 {
			if d := math.Abs(s.size[int(e)*s.n+k] - size); d < off {
				best, off = int32(j), d
			}
		}
	}
	return best
}

// ofSize is an expert whose load is near x.
func (a *Annealer) ofSize(x float64) int32 {
	i := sort.Search(len(a.order), func(i int) bool { return a.key[a.order[i]] <= x })
	return a.order[min(max(i+a.intN(5)-2, 0), len(a.order)-1)]
}

// unlikely is -ln((i+1/2)/256), rounded so far that all platforms' logarithms are alike.
var unlikely = func() (t [256]float64) {
	for i := range t {
		t[i] = float64(float32(-math.Log((float64(i) + .5) / 256)))
	}
	return t
}()
