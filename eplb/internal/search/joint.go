package search

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/eplb/internal/memory"
)

const (
	// jointGain is the relative gain, divided by the number of GPUs, below which
	// a change of a plan over windows is not worth its time.
	jointGain = 1e-3
	// kickWork is the work, in pairs of replicas and windows compared, that
	// ends the search for another start of a layer.
	kickWork = 1 << 16
	// kicks is how many such starts are tried at most.
	kicks = 256
	// jointWork bounds the work of a layer.
	jointWork = 1 << 27
	// firmWork is the work that is done even where the search is to stop: a few
	// milliseconds.
	firmWork = 1 << 22
)

// Joint searches for a placement of a layer that holds over several windows, where
// nothing costs a move.
//
// It descends on the norm of the power 16: the maximum itself cares for one GPU a
// window and is soon stuck. Exchanges between any two GPUs and changes of counts
// take turns; at the end, exchanges that lower the time itself. It starts where counts
// fit the windows best; as long as work is left, or where speeds differ, it goes on from
// other starts, and as long as work is left from the best plan, disturbed.
type Joint struct {
	s       *State
	slope   []float64 // how the objective grows with each total, [windows]
	peaks   [][]int   // the fullest GPUs, [windows]
	hot     []bool    // the GPU is the fullest in some window
	free    []float64 // level of the other GPUs, [windows]
	now     int64     // pairs of GPUs compared so far
	changed []int64   // now when the GPU last changed
	work    int
	rng     rand.PCG
	stop    func() bool
	firm    bool // the first descent goes on whatever stop says, if that is soon

	Best     []int32 // the best placement so far
	BestTime float64
}

// Search descends from one of some layouts, from the others and from disturbed ones, until
// the time is within the goal, with firm for firmWork even where it is to stop. Layouts must
// be full and allowed; their order changes.
func (j *Joint) Search(s *State, seeds [][]int32, goal float64, firm bool, stop func() bool) {
	gpus, n := len(s.inv), s.n
	j.s, j.stop, j.work = s, stop, 0
	j.slope = memory.Resize(j.slope, n)
	for len(j.peaks) < n {
		j.peaks = append(j.peaks, nil)
	}
	j.hot = memory.Resize(j.hot, gpus)
	j.free = memory.Resize(j.free, n)
	j.changed = memory.Resize(j.changed, gpus)
	j.BestTime = math.Inf(1)
	s.twice, s.onward = Soft, false
	first, least := 0, math.Inf(1)
	for i, seed := range seeds {
		s.Start(seed)
		j.keep()
		if x := j.replicas(); x < least {
			first, least = i, x
		}
	}
	seeds[0], seeds[first] = seeds[first], seeds[0]
	j.rng.Seed(uint64(len(s.slot)), uint64(n))
	sure := 1 // starts gone on from whatever work is left
	if slices.Max(s.t.Speed) > slices.Min(s.t.Speed) {
		sure = len(seeds) // counts alone tell little of fast and slow GPUs
	}
	for i := 0; i < kicks && (i == 0 || (i < sure || j.work < kickWork) && j.BestTime > goal && !stop()); i++ {
		j.firm = firm && i == 0
		if i < len(seeds) {
			clear(j.changed)
			j.now = 0
			s.Start(seeds[i])
			j.descend()
			continue
		}
		s.Start(j.Best)
		j.now += int64(gpus) * int64(gpus)
		if j.kick(); i%2 == 0 {
			j.descend()
		} else { // the norm may lead away from the least time
			j.lowerPeaks()
			j.keep()
		}
	}
}

// replicas is the objective as if every replica had a GPU to itself: where counts fit the
// windows, all are small.
func (j *Joint) replicas() (sum float64) {
	s := j.s
	for k, a := range s.t.Share {
		total := 0.0
		for e, n := range s.count {
			total += float64(float64(n) * pow16(s.size[e*s.n+k]))
		}
		sum += float64(a * s.root(total))
	}
	return sum
}

// descend improves the placement at hand and keeps it if it is the best so far.
func (j *Joint) descend() {
	for j.exchangeAll() {
		if !j.recount() {
			break
		}
	}
	j.lowerPeaks()
	j.keep()
}

// keep puts the placement at hand aside if it is the best so far.
func (j *Joint) keep() {
	j.s.Refresh()
	if x := j.s.Time(); x < j.BestTime && (j.s.t.Home == nil || j.s.off <= j.s.t.MostOff) {
		j.BestTime = x
		j.Best = append(j.Best[:0], j.s.slot...)
	}
}

// kick disturbs the placement at hand: a few random changes.
func (j *Joint) kick() {
	s := j.s
	draw := func(n int) int { return int(j.rng.Uint64() % uint64(n)) }
	for range 1 + draw(6) {
		c := Change{int32(draw(len(s.slot))), -1, int32(draw(len(s.count)))}
		if draw(2) == 0 {
			c.B = int32(draw(len(s.slot)))
		}
		if s.May(c) {
			j.apply(c)
		}
	}
}

func pow16(x float64) float64 {
	x *= x
	x *= x
	x *= x
	return float64(x * x)
}

// weigh refreshes powers, totals and slopes and returns the objective.
func (j *Joint) weigh() float64 {
	s := j.s
	sum := s.weigh()
	for k, x := range s.part {
		// The norm is concave in the total: its tangent never promises too much.
		j.slope[k] = x / s.total[k] / (1 << Soft)
	}
	return sum
}

// exchangeAll takes the GPUs two by two and exchanges the two replicas that
// lower the objective most, until no exchange lowers it by jointGain. Two GPUs
// that have not changed since they were last compared are passed over. It
// returns false if the work allowed is spent. Cost: a round compares up to
// slots²/2 pairs of replicas in each window, and 4 to 8 rounds are usual.
func (j *Joint) exchangeAll() bool {
	s := j.s
	gpus := int64(len(s.inv))
	round := gpus * (gpus - 1) / 2
	objective := j.weigh()
	for moved := true; moved; {
		moved = false
		for g := range s.inv {
			if j.spent() {
				return false
			}
			j.work += (len(s.inv) - g) * s.n
			for h := g + 1; h < len(s.inv); h++ {
				j.now++
				if before := j.now - round; j.changed[g] < before && j.changed[h] < before {
					continue
				}
				if a, b := j.bestExchange(g, h, float64(jointGain/float64(len(s.inv))*objective)); a >= 0 {
					j.apply(Change{int32(a), int32(b), -1})
					objective = j.weigh()
					moved = true
				}
			}
		}
	}
	return true
}

// spent says whether the work allowed is done.
func (j *Joint) spent() bool {
	return j.work > jointWork || (j.stop() && !(j.firm && j.work < firmWork))
}

// bestExchange finds the slots of GPUs g and h whose exchange lowers the objective
// most, and by more than least; -1 if there are none.
func (j *Joint) bestExchange(g, h int, least float64) (ba, bb int) {
	s, n := j.s, j.s.n
	now, even := 0.0, 0.0
	for k, c := range j.slope[:n] {
		now += float64(c * (s.power[g*n+k] + s.power[h*n+k]))
		s.floor[k] = 0
		if s.inv[g] == s.inv[h] {
			s.floor[k] = float64(2 * c * pow16((s.level[g*n+k]+s.level[h*n+k])/2))
		}
		even += s.floor[k]
	}
	if even >= now-least {
		return -1, -1
	}
	ba, bb, _ = j.compare(g, h, even, now-least, false)
	return ba, bb
}

// compare finds the slots of g and h after whose exchange what both add to the
// objective, or with peaks the time of all, is farthest below best, and what that is;
// -1 if there are none. It is no less than even, which s.floor adds up to.
func (j *Joint) compare(g, h int, even, best float64, peaks bool) (ba, bb int, least float64) {
	s, n := j.s, j.s.n
	first, share := s.t.First, s.t.Share
	slope, free, floor := j.slope[:n], j.free[:n], s.floor[:n]
	lg, lh := s.level[g*n:][:n], s.level[h*n:][:n]
	vg, vh := s.inv[g], s.inv[h]
	ba, bb = -1, -1
	for a := first[g]; a < first[g+1]; a++ {
		x := s.slot[a]
		if s.holds(int32(h), x) {
			continue
		}
		if j.work += (first[h+1] - first[h]) * n; j.work > jointWork {
			break
		}
		sx := s.size[int(x)*n:][:n]
		for b := first[h]; b < first[h+1]; b++ {
			y := s.slot[b]
			sy := s.size[int(y)*n:][:n]
			sum := even
			for k := range sx {
				d := sx[k] - sy[k]
				p, q := lg[k]-float64(d*vg), lh[k]+float64(d*vh)
				if peaks {
					sum += float64(share[k]*max(free[k], p, q)) - floor[k]
				} else {
					sum += float64(slope[k]*(pow16(p)+pow16(q))) - floor[k]
				}
				if sum >= best {
					break
				}
			}
			if sum < best && !s.holds(int32(g), y) && s.mayExchange(int32(a), int32(b)) {
				best, ba, bb = sum, a, b
			}
		}
	}
	return ba, bb, best
}

// apply makes a change and notes which GPUs it touches.
func (j *Joint) apply(c Change) {
	s := j.s
	touch := func(slots ...int32) {
		for _, i := range slots {
			j.changed[s.gpu[i]] = j.now
		}
	}
	if c.B >= 0 {
		s.Apply(c)
		touch(c.A, c.B)
		return
	}
	f := s.slot[c.A]
	s.Apply(c)
	s.Refresh()
	touch(c.A)
	touch(s.at[c.E]...)
	touch(s.at[f]...)
}

// findPeaks lists the three fullest GPUs of every window.
func (j *Joint) findPeaks() {
	s, n := j.s, j.s.n
	clear(j.hot)
	for k := range n {
		top := j.peaks[k][:0]
		for g := range s.inv {
			top = append(top, g)
			for i := len(top) - 1; i > 0 && s.level[top[i]*n+k] > s.level[top[i-1]*n+k]; i-- {
				top[i], top[i-1] = top[i-1], top[i]
			}
			top = top[:min(3, len(top))]
		}
		j.peaks[k], j.hot[top[0]] = top, true
	}
}

// lowerPeaks exchanges replicas while that lowers the time itself: each time the
// exchange with a GPU that is the fullest of some window that lowers it most.
func (j *Joint) lowerPeaks() {
	s := j.s
	for j.work <= jointWork && !j.stop() {
		j.findPeaks()
		best, ba, bb := s.Time()*(1-1e-9), -1, -1
		for g := range s.inv {
			if !j.hot[g] {
				continue
			}
			for h := range s.inv {
				if h == g || (h < g && j.hot[h]) {
					continue
				}
				if a, b, sum := j.bestLowering(g, h, best); a >= 0 {
					ba, bb, best = a, b, sum
				}
			}
			j.work += len(s.inv) * s.n
		}
		if ba < 0 {
			return
		}
		j.apply(Change{int32(ba), int32(bb), -1})
	}
}

// bestLowering finds the slots of g and h whose exchange brings the time
// farthest below best, and that time; -1 if there are none.
func (j *Joint) bestLowering(g, h int, best float64) (ba, bb int, sum float64) {
	s, n := j.s, j.s.n
	vg, vh := s.t.Speed[g], s.t.Speed[h]
	even := 0.0
	for k, a := range s.t.Share {
		j.free[k] = 0
		if i := slices.IndexFunc(j.peaks[k], func(q int) bool { return q != g && q != h }); i >= 0 {
			j.free[k] = s.level[j.peaks[k][i]*n+k]
		}
		s.floor[k] = float64(a * max(j.free[k], (float64(s.level[g*n+k]*vg)+float64(s.level[h*n+k]*vh))/(vg+vh)))
		even += s.floor[k]
	}
	if even >= best {
		return -1, -1, best
	}
	return j.compare(g, h, even, best, true)
}

// recount changes counts at the fullest GPUs: a slot of an expert with several
// replicas goes to another expert, each time what lowers the objective most, by
// jointGain at least. It returns whether it changed any.
func (j *Joint) recount() (changed bool) {
	s := j.s
	for !j.spent() {
		least := float64(jointGain / float64(len(s.inv)) * s.weigh())
		from := s.work
		c, ok := s.forward(least, false, true)
		if j.work += (s.work - from) * s.n; !ok {
			break
		}
		j.apply(c)
		changed = true
	}
	j.weigh()
	return changed
}

// Peaks is the largest share of the time of a GPU that each expert takes in any
// window.
func (t *Task) Peaks() []float64 {
	out := make([]float64, t.Experts)
	for i, x := range t.Load {
		e, k := i/len(t.Share), i%len(t.Share)
		out[e] = max(out[e], float64(x*t.Share[k]))
	}
	return out
}
