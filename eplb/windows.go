package eplb

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/placement"
)

const (
	// sumTolerance is how near its bound the plan on the sum must come where it
	// is but the one to beat.
	sumTolerance = 1e-2
	// leastGain is the relative gain, divided by the number of GPUs, below which
	// a change of a plan over windows is not worth its time.
	leastGain = 1e-3
	// kickWork is the work, in pairs of replicas and windows compared, that
	// ends the search for another start of a layer.
	kickWork = 1 << 16
	// kicks is how many such starts are tried at most.
	kicks = 256
	// windowWork bounds the work of a layer.
	windowWork = 1 << 27
)

// windows searches for a placement of one layer that holds over several
// windows: the mean over the windows of the imbalance is to be least. Its
// memory is used again for every layer. Windows without load in the layer are
// balanced whatever the plan; they are left out.
//
// It starts from a plan for the largest load that each expert has in any window,
// and descends on a smooth stand-in for the objective, the mean of the 16-norms
// of the GPUs' levels: the maximum itself cares for one GPU a window and is soon
// stuck. Exchanges between any two GPUs (jointswap.go) and changes of counts
// (jointcounts.go) take turns; at the end, exchanges that lower the objective
// itself. Where time is left, it starts over from a disturbed plan. The plan on
// the sum of the windows is the one to beat.
type windows struct {
	s       *solver
	n       int       // windows with load
	scale   float64   // of the mean over those in the mean over all
	idle    float64   // share of the windows without load
	w       []float64 // load of each expert, [experts][n], as solver.w
	size    []float64 // load of one replica
	load    []float64 // load/speed of each GPU, [GPUs][n]
	inv     []float64 // 1/speed of each GPU
	power   []float64 // load^normPower, [GPUs][n]
	total   []float64 // sum of power over the GPUs, [n]
	slope   []float64 // how the smooth objective grows with total, [n]
	gain    []float64 // what one replica more of an expert gains, [experts]
	peaks   []peak    // [n]
	hot     []bool    // the GPU is the fullest in some window
	free    []float64 // level of the other GPUs, [n]
	first   []int32   // expert e is on the GPUs held[first[e]:first[e+1]]
	held    []int32
	row     []float64 // loads of one window, or the largest over all
	now     int64     // pairs of GPUs compared so far
	changed []int64   // now when the GPU last changed
	work    int
	best    layout
	rng     rand.PCG
	stop    func() bool
}

// planWindows fills s.best with a plan of layer l over p.Windows, and returns a
// lower bound; both are means over the windows.
func (s *solver) planWindows(p *Problem, l int, tolerance float64, stop func() bool) (bound float64) {
	j := s.joint
	if j == nil {
		j = newWindows(s, len(p.Windows))
		s.joint = j
	}
	j.stop = stop
	bounds := j.setLoads(p.Windows, l)
	s.setLoads(p.Loads[l])
	if j.n < 2 { // the sum is that window
		bound = s.search(tolerance, stop)
		s.best.level = float64(s.best.level*j.scale) + j.idle
		return float64(bound*j.scale) + j.idle
	}
	// The mean of the maxima is at least the maximum of the means, so a bound of
	// the sum is one of the windows.
	bound = max(s.search(max(tolerance, sumTolerance), stop), bounds)
	j.search(bound * (1 + tolerance))
	copy(s.best.slot, j.best.slot)
	copy(s.best.count, j.best.count)
	s.best.level = float64(j.best.level*j.scale) + j.idle
	return float64(bound*j.scale) + j.idle
}

func newWindows(s *solver, n int) *windows {
	gpus, experts := len(s.u.gpu), len(s.w)
	j := &windows{
		s:       s,
		w:       make([]float64, experts*n),
		size:    make([]float64, experts*n),
		load:    make([]float64, gpus*n),
		inv:     make([]float64, gpus),
		power:   make([]float64, gpus*n),
		total:   make([]float64, n),
		slope:   make([]float64, n),
		gain:    make([]float64, experts),
		peaks:   make([]peak, n),
		hot:     make([]bool, gpus),
		free:    make([]float64, n),
		first:   make([]int32, experts+1),
		held:    make([]int32, s.u.slots),
		row:     make([]float64, experts),
		changed: make([]int64, gpus),
		best:    layout{slot: make([]int32, s.u.slots), count: make([]int32, experts)},
	}
	for g, v := range s.u.speed {
		j.inv[g] = 1 / v
	}
	return j
}

// setLoads takes layer l of the windows that have load in it and returns the
// mean of their lower bounds.
func (j *windows) setLoads(all []placement.Loads, l int) (bound float64) {
	s := j.s
	live := func(w placement.Loads) bool {
		return slices.ContainsFunc(w[l], func(x float64) bool { return x > 0 })
	}
	j.n = 0
	for _, w := range all {
		if live(w) {
			j.n++
		}
	}
	j.scale = float64(j.n) / float64(len(all))
	j.idle = float64(len(all)-j.n) / float64(len(all))
	i := 0
	for _, w := range all {
		if !live(w) {
			continue
		}
		s.setLoads(shares(j.row, w[l]))
		for e, x := range s.w {
			j.w[e*j.n+i] = x
		}
		i++
		bound += s.speedBound(s.replicaBound()) / float64(j.n)
	}
	return bound
}

// shares writes the share of each load in their sum into dst, zeros where there
// is none.
func shares(dst, loads []float64) []float64 {
	total := 0.0
	for _, x := range loads {
		total += x
	}
	for e, x := range loads {
		dst[e] = x
		if total > 0 {
			dst[e] = x / total
		}
	}
	return dst
}

// search fills j.best; s.best is the plan on the sum.
func (j *windows) search(goal float64) {
	s := j.s
	j.best.level = math.Inf(1)
	gpus := int64(len(j.inv))
	j.work, j.now = 0, gpus*gpus
	for g := range j.changed {
		j.changed[g] = j.now
	}
	j.take(&s.best)
	j.keep()
	if j.packPeaks() {
		j.descend()
	}
	j.rng.Seed(uint64(s.u.slots), uint64(j.n))
	for n := 0; n < kicks && j.work < kickWork && j.best.level > goal && !j.stop(); n++ {
		// Half the time go on from where the last kick led.
		if n%4 < 2 {
			j.take(&j.best)
		}
		j.now += gpus * gpus
		j.kick()
		if n%2 == 0 {
			j.descend()
		} else {
			j.lowerPeaks()
			j.keep()
		}
	}
}

// packPeaks makes a plan for the largest load of each expert in any window the
// placement at hand: an expert that is hot in one window needs its replicas
// then. It returns false if there is none.
func (j *windows) packPeaks() bool {
	s, n := j.s, j.n
	for e := range j.row {
		j.row[e] = slices.Max(j.w[e*n : (e+1)*n])
	}
	s.setLoads(j.row)
	if !s.adams(s.u.slots, len(s.u.gpu), nil) || !s.pack() {
		return false
	}
	for e := range s.w {
		j.resize(int32(e))
	}
	j.refresh()
	return true
}

// descend improves the placement at hand and keeps it if it is the best so far.
func (j *windows) descend() {
	for j.exchangeAll() {
		if !j.recount() {
			break
		}
	}
	j.lowerPeaks()
	j.keep()
}

// take makes a layout the placement at hand.
func (j *windows) take(from *layout) {
	s := j.s
	copy(s.slot, from.slot)
	copy(s.count, from.count)
	clear(s.has)
	for g := range s.u.speed {
		for _, e := range s.slot[s.u.first[g]:s.u.first[g+1]] {
			s.has[g*s.words+int(e>>6)] |= 1 << (e & 63)
		}
	}
	for e := range s.w {
		j.resize(int32(e))
	}
	j.refresh()
}

// resize sets the load of one replica of e.
func (j *windows) resize(e int32) {
	c := float64(j.s.count[e])
	for i := int(e) * j.n; i < (int(e)+1)*j.n; i++ {
		j.size[i] = j.w[i] / c
	}
}

// refresh adds up the loads of the GPUs.
func (j *windows) refresh() {
	s, n := j.s, j.n
	for g, v := range j.inv {
		load := j.load[g*n : (g+1)*n]
		clear(load)
		for _, e := range s.slot[s.u.first[g]:s.u.first[g+1]] {
			for i, x := range j.size[int(e)*n : (int(e)+1)*n] {
				load[i] += x
			}
		}
		for i := range load {
			load[i] *= v
		}
	}
}

// keep puts the placement at hand aside if it is the best so far.
func (j *windows) keep() {
	j.refresh()
	if l := j.findPeaks() / float64(j.n); l < j.best.level {
		j.best.level = l
		copy(j.best.slot, j.s.slot)
		copy(j.best.count, j.s.count)
	}
}

// kick disturbs the placement at hand: a few random changes of counts, then a
// few random exchanges, each with the fullest GPU of a random window.
func (j *windows) kick() {
	s := j.s
	u := s.u
	draw := func(n int) int { return int(j.rng.Uint64() % uint64(n)) }
	for range draw(4) {
		g := draw(len(u.speed))
		if u.room(g) == 0 {
			continue
		}
		a, e := u.first[g]+draw(u.room(g)), int32(draw(len(s.w)))
		if s.count[s.slot[a]] > 1 && !s.holds(g, e) {
			j.replace(g, a, e)
		}
	}
	j.findPeaks()
	for range draw(4) {
		g, h := int(j.peaks[draw(j.n)].gpu[0]), draw(len(u.speed))
		if g == h || u.room(h) == 0 {
			continue
		}
		a, b := u.first[g]+draw(u.room(g)), u.first[h]+draw(u.room(h))
		if !s.holds(h, s.slot[a]) && !s.holds(g, s.slot[b]) {
			j.exchange(g, a, h, b)
		}
	}
}

// sumWindows sets p.Loads to the sum of the windows, each layer of a window
// counting as much as that of another; raw adds up the loads as they are.
func sumWindows(p *Problem, raw bool) {
	p.Loads = placement.NewLoads(len(p.Windows[0]), p.Windows[0].Experts())
	row := make([]float64, p.Loads.Experts())
	for _, w := range p.Windows {
		for l := range w {
			add := w[l]
			if !raw {
				add = shares(row, w[l])
			}
			for e, x := range add {
				p.Loads[l][e] += x
			}
		}
	}
}

// scoreWindows sets the imbalance and the bound of every layer of a plan that
// was made on the sum to those over the windows.
func scoreWindows(p *Problem, o *Options, r *Result) {
	mean, err := meanImbalance(&r.Placement, p.Windows, p.Topology)
	if err != nil {
		return // not where the plan is valid
	}
	j := newWindows(newSolver(newUnit(&p.Topology, p.Replicas, p.Loads.Experts(), nil), p.Loads.Experts()), len(p.Windows))
	for l, x := range mean {
		s := &r.Layers[l]
		bound := float64(j.setLoads(p.Windows, l)*j.scale) + j.idle
		if o.Policy != DeepSeek {
			// Its sum counts all windows alike, so a bound of it is one of the mean.
			bound = max(bound, float64(s.LowerBound*j.scale)+j.idle)
		}
		s.Imbalance, s.LowerBound = x, min(bound, x)
		if r.Locality != nil {
			r.Locality.FreeImbalance[l] = min(r.Locality.FreeImbalance[l], x)
		}
		switch {
		case x <= bound*(1+provedTolerance):
			s.Status = Proved
		case s.Status == Proved:
			s.Status = Feasible
		}
	}
}

// meanImbalance is, for each layer of a plan, the mean over windows of its
// imbalance.
func meanImbalance(plan *placement.Placement, windows []placement.Loads, t placement.Topology) ([]float64, error) {
	mean := make([]float64, len(plan.PhysicalToLogical))
	for _, w := range windows {
		scores, err := plan.ScoreLayers(w, t)
		if err != nil {
			return nil, err
		}
		for l, s := range scores {
			mean[l] += s.Imbalance / float64(len(windows))
		}
	}
	return mean, nil
}
