package eplb

import (
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
	"github.com/moelb/moelb/placement"
)

// sumTolerance is how near its bound the plan on the sum of the windows of layer l
// must come: not very, where none of them is most of it.
func (j *windows) sumTolerance(l int, o *Options) float64 {
	if j.setLoads(l); slices.Max(j.task.Share) > .5 {
		return max(o.Tolerance, 0)
	}
	return max(o.Tolerance, 1e-2)
}

// windows plans a layer over several windows, starting from a plan on their sum
// and one for the largest load that each expert has in any of them. Its memory is
// used again for every layer.
type windows struct {
	*layerTask
	joint search.Joint
	w     []float64
}

// newWindows is nil where there is one window.
func newWindows(p *Problem, o *Options, u *unit) *windows {
	if len(p.Windows) == 0 {
		return nil
	}
	return &windows{layerTask: newLayerTask(p, o, u)}
}

// byGroup improves the plan of layer l in r, whose groups are at home, for all
// windows.
func (j *windows) byGroup(o *Options, l int, r *Result, s *solver, stop func() bool) {
	row := r.Placement.PhysicalToLogical[l]
	for g, at := range s.u.start {
		for i := range s.u.room(g) {
			s.best.slot[s.u.first[g]+i] = int32(row[at+i])
		}
	}
	if len(j.task.Share) < 2 || slices.Contains(s.best.slot, -1) {
		return
	}
	j.setHome(r.Locality.Home[l], max(o.OffNodeReplicas, r.Locality.OffNodeReplicas[l]))
	s.planWindows(j, l, 1, max(o.Tolerance, 0), false, stop)
	j.task.Home = nil
	writeRow(s.u, s.best.slot, row)
	r.Locality.count(j.p, l, row)
}

// planWindows improves s.best, the plan of layer l on the sum of its windows, for
// all of them, and returns a lower bound, where bound is one of the sum: the time
// that all windows take together is no less than that of their sum. free says
// that experts may live anywhere.
func (s *solver) planWindows(j *windows, l int, bound, tolerance float64, free bool, stop func() bool) float64 {
	j.setLoads(l)
	t := &j.task
	n := len(t.Share)
	if n < 2 { // the sum is that window
		return bound
	}
	bound = max(bound, s.windowsBound(j))
	j.s.Set(t)
	seeds := [][]int32{s.best.slot}
	if free {
		s.setLoads(t.Peaks())
		if s.adams(s.u.slots, len(s.u.gpu), nil) && s.pack() {
			seeds = append(seeds, s.slot)
		}
	}
	j.joint.Search(&j.s, seeds, bound*(1+tolerance), stop)
	s.best.level = j.joint.BestTime
	copy(s.best.slot, j.joint.Best)
	clear(s.best.count)
	for _, e := range s.best.slot {
		s.best.count[e]++
	}
	return bound
}

// windowsBound is the sum of the windows' lower bounds.
func (s *solver) windowsBound(j *windows) (bound float64) {
	n := len(j.task.Share)
	j.w = slices.Grow(j.w[:0], len(s.w))[:len(s.w)]
	for k, a := range j.task.Share {
		for e := range j.w {
			j.w[e] = j.task.Load[e*n+k]
		}
		s.setLoads(j.w)
		bound += float64(a * s.speedBound(s.replicaBound()))
	}
	return bound * (1 - 1e-12) // rounding must not matter
}

// sumWindows sets p.Loads to the sum of the windows.
func sumWindows(p *Problem) {
	p.Loads = placement.NewLoads(len(p.Windows[0]), p.Windows[0].Experts())
	for _, w := range p.Windows {
		for l, row := range w {
			for e, x := range row {
				p.Loads[l][e] += x
			}
		}
	}
}

// scoreWindows sets the imbalance of every layer of a plan to that over all
// windows, of which the plan may know but sums.
func scoreWindows(p *Problem, r *Result) {
	time, err := r.Placement.ImbalanceOver(p.Windows, p.Topology)
	if err != nil {
		return // not where the plan is valid
	}
	for l, x := range time {
		y := &r.Layers[l]
		bound := min(max(y.LowerBound, 1), x)
		moves, stopped := y.Moves, y.Status == Stopped
		*y = newLayer(x, bound, stopped)
		y.Moves = moves
		if r.Locality != nil {
			r.Locality.FreeImbalance[l] = min(r.Locality.FreeImbalance[l], x)
		}
	}
}

// mostWindows is how many windows a layer is planned over at most.
const mostWindows = 16

// representatives picks the windows of a layer to plan over.
type representatives struct {
	rows  [][]float64
	sums  [][]float64
	of    []int
	near  []float64
	total []float64
}

// live lists the windows of layer l that have load in it. Where they are more
// than mostWindows, sums of alike ones stand for them: windows are gathered round
// those that are farthest from each other, as shares of their load. A sum of
// windows takes no more time than they do, and as much where they are alike.
// Cost: O(mostWindows·windows·experts).
func (r *representatives) live(p *Problem, l int) [][]float64 {
	r.rows, r.total = r.rows[:0], r.total[:0]
	add := func(w []float64) {
		sum := 0.0
		for _, x := range w {
			sum += x
		}
		if sum > 0 {
			r.rows, r.total = append(r.rows, w), append(r.total, sum)
		}
	}
	if len(p.Windows) == 0 {
		add(p.Loads[l])
		return r.rows
	}
	for _, w := range p.Windows {
		add(w[l])
	}
	if len(r.rows) <= mostWindows {
		return r.rows
	}
	return r.gather()
}

// gather sums up alike windows.
func (r *representatives) gather() [][]float64 {
	n := len(r.rows)
	r.of = slices.Grow(r.of[:0], n)[:n]
	r.near = slices.Grow(r.near[:0], n)[:n]
	for i := range r.near {
		r.near[i] = math.Inf(1)
	}
	centre := 0 // the largest comes first
	for i, x := range r.total {
		if x > r.total[centre] {
			centre = i
		}
	}
	for k := range mostWindows {
		far, next := -1.0, 0
		for i, w := range r.rows {
			if d := distance(w, r.rows[centre], 1/r.total[i], 1/r.total[centre]); d < r.near[i] {
				r.near[i], r.of[i] = d, k
			}
			// What is far and large matters most.
			if x := float64(r.near[i] * r.total[i]); x > far {
				far, next = x, i
			}
		}
		centre = next
	}
	for len(r.sums) < mostWindows {
		r.sums = append(r.sums, make([]float64, len(r.rows[0])))
	}
	used := make([]bool, mostWindows)
	for _, sum := range r.sums {
		clear(sum)
	}
	for i, w := range r.rows {
		used[r.of[i]] = true
		sum := r.sums[r.of[i]]
		for e, x := range w {
			sum[e] += x
		}
	}
	out := r.rows[:0]
	for k, sum := range r.sums {
		if used[k] {
			out = append(out, sum)
		}
	}
	return out
}

// distance is how far two windows are apart, as shares: the sum of differences.
func distance(a, b []float64, scaleA, scaleB float64) float64 {
	sum := 0.0
	b = b[:len(a)]
	for e, x := range a {
		sum += math.Abs(float64(x*scaleA) - float64(b[e]*scaleB))
	}
	return sum
}
