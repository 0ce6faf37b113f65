package split

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/internal/flow"
	"github.com/moelb/moelb/eplb/internal/memory"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// StaticWeights computes ahead what share of an expert's tokens each of its
// slots gets, for engines that cannot split every batch anew: the weights that
// minimise the mean over windows of the largest load/speed of a GPU, divided by
// total load / total speed. Every window is loads of p's layers and experts, in
// units of its own; one without load in a layer counts as 1 there.
//
// The weights, [layers][slots], are ≥ 0 and add up to 1 for every expert; empty
// slots, and further ones of an expert on its GPU, get 0. A layer's Imbalance is
// the mean that the weights reach, LowerBound what none is below: 0.01% less, or
// some 0.05% where a layer is large or loosely joined. t must have p's GPUs; its zero value stands for
// equal speeds. Errors are *placement.Error: an invalid placement, a replica on
// a GPU out of service, no windows, loads of another shape. Cost: some 10
// microseconds a layer of 288 slots for one window, up to tens of milliseconds
// for several.
func StaticWeights(p *placement.Placement, t placement.Topology, windows []placement.Loads) ([][]float64, []eplb.Layer, error) {
	s, in, err := newSplitter(p, t)
	if err != nil {
		return nil, nil, err
	}
	if len(windows) == 0 {
		return nil, nil, refuse.Errorf(placement.ErrShape, "loads", "no windows")
	}
	for k, w := range windows {
		if err := checkLoads(w, p, fmt.Sprintf("window %d is ", k)); err != nil {
			return nil, nil, err
		}
	}
	all := len(p.PhysicalToLogical)
	cells := make([]float64, all*s.slots)
	weights := make([][]float64, all)
	layers := make([]eplb.Layer, all)
	var n flow.Net
	var x saddle
	for l, row := range p.PhysicalToLogical {
		weights[l] = cells[l*s.slots : (l+1)*s.slots : (l+1)*s.slots]
		flow.Link(in, &n, row)
		layers[l] = s.weigh(weights[l], &n, l, windows, &x)
	}
	return weights, layers, nil
}

// weigh finds the weights of one layer.
func (s *Splitter) weigh(dst []float64, n *flow.Net, l int, windows []placement.Loads, x *saddle) eplb.Layer {
	for _, h := range n.Alone {
		dst[h.Slot] = 1
	}
	x.set(s, n, l, windows)
	bound := s.shareMean(n, x)
	copy(x.best, x.now.x)
	level := x.value(x.now.x)
	if len(x.scale) > 0 {
		level, bound = x.solve(level, bound)
	}
	for a, i := range n.Slot {
		dst[i] = x.best[a]
	}
	// Windows without load are as even as can be.
	idle := float64(len(windows)-len(x.scale)) / float64(len(windows))
	busy := 1 - idle
	return report(max(1, float64(level*busy)+idle), max(1, float64(bound*busy)+idle))
}

// shareMean starts from the best split of the windows' mean, where each counts
// alike; for one window that is all. Its level is a bound: the mean of maxima is
// no less than the maximum of the mean.
func (s *Splitter) shareMean(n *flow.Net, x *saddle) (bound float64) {
	const units = flow.MaxTokens / 4
	counts := s.reads.counts
	total := int64(0)
	for e := range counts {
		sum := 0.0
		for k, v := range x.scale {
			sum += float64(x.loads[k][e] * v)
		}
		counts[e] = int64(sum / float64(max(len(x.scale), 1)) / s.speeds * units)
		total += counts[e]
	}
	f := &s.flow
	bound = 1
	if total > 0 {
		level := f.Split(n, counts, total)
		bound = max(bound, s.unitBound(n, level, units))
	}
	for i, e := range n.Expert {
		lo, hi := n.First[i], n.First[i+1]
		for a := lo; a < hi; a++ {
			if counts[e] > 0 && total > 0 {
				x.now.x[a] = float64(f.Quota[a]) / float64(counts[e])
			} else {
				x.now.x[a] = 1 / float64(hi-lo)
			}
		}
	}
	return bound
}

// saddle minimises over the weights x, and maximises over prices y of the GPUs
// in each window, the sum of prices times loads: the weights of an expert add up
// to 1, and so do the prices of all windows' GPUs, as much in every window. At
// the saddle x is optimal, and any y bounds it: every expert goes where it is
// cheapest.
//
// It steps along both gradients in turn, each against the other's point ahead of
// its last (primal-dual hybrid gradient), and starts again from the mean of its
// path once that is nearer to the saddle by half, which makes it converge
// geometrically. Source: Applegate et al., PDLP, arXiv 2106.04756.
type saddle struct {
	net   *flow.Net
	gpus  int
	loads [][]float64 // of each window with load
	scale []float64   // what makes its mean load/speed 1
	slow  []float64   // 1/speed of each GPU; 0 = out of service
	base  []float64   // loads that no weight changes, [windows][GPUs], by speed
	cell  []float64   // loads of the whole of an expert, [windows][arcs], by speed

	now, sum, mean, from point     // sum and mean are over the path since from, the last start
	best, ahead          []float64 // weights
	load                 []float64 // [windows][GPUs]
	price                []float64 // of each arc
	free                 []float64 // memory of project
}

// point is weights of the arcs, and prices of [windows][GPUs].
type point struct{ x, y []float64 }

func (p *point) set(q *point) {
	copy(p.x, q.x)
	copy(p.y, q.y)
}

// weightGap is how near to its bound a mean of imbalances is good enough.
const weightGap = 1e-4

// weightWork bounds the arcs looked at in the search for a layer's weights.
const weightWork = 1 << 26

// set takes the windows of a layer.
func (x *saddle) set(s *Splitter, n *flow.Net, l int, windows []placement.Loads) {
	x.net, x.gpus = n, len(s.reads.active)
	x.loads, x.scale = x.loads[:0], x.scale[:0]
	for _, w := range windows {
		sum := 0.0
		for _, v := range w[l] {
			sum += v
		}
		if sum > 0 {
			x.loads = append(x.loads, w[l])
			x.scale = append(x.scale, s.speeds/sum)
		}
	}
	x.slow = memory.Resize(x.slow, x.gpus)
	for g := range x.slow {
		if x.slow[g] = 0; n.Speed[g] > 0 {
			x.slow[g] = 1 / n.Speed[g]
		}
	}
	x.base = memory.Resize(x.base, len(x.scale)*x.gpus)
	clear(x.base)
	for k, v := range x.scale {
		for _, h := range n.Alone {
			x.base[k*x.gpus+int(h.GPU)] += float64(float64(x.loads[k][h.Expert]*v) * x.slow[h.GPU])
		}
	}
	x.cell = x.cell[:0]
	for k, v := range x.scale {
		for a, g := range n.GPU {
			e := n.Expert[n.Owner[a]]
			x.cell = append(x.cell, float64(x.loads[k][e]*v)*x.slow[g])
		}
	}
	for _, v := range []*[]float64{&x.now.x, &x.sum.x, &x.mean.x, &x.from.x, &x.ahead, &x.price, &x.best} {
		*v = memory.Resize(*v, len(n.GPU))
	}
	for _, v := range []*[]float64{&x.now.y, &x.sum.y, &x.mean.y, &x.from.y, &x.load} {
		*v = memory.Resize(*v, len(x.scale)*x.gpus)
	}
}

// addLoads adds what every window's replicated experts put on the GPUs, by
// speed, under the given weights.
func (x *saddle) addLoads(weight, load []float64) {
	arcs := len(x.price)
	for k := range x.scale {
		row, cell := load[k*x.gpus:(k+1)*x.gpus], x.cell[k*arcs:(k+1)*arcs]
		for a, g := range x.net.GPU {
			row[g] += float64(cell[a] * weight[a])
		}
	}
}

// value is the mean of the windows' levels under the given weights.
func (x *saddle) value(weight []float64) float64 {
	if len(x.scale) == 0 {
		return 1
	}
	copy(x.load, x.base)
	x.addLoads(weight, x.load)
	sum := 0.0
	for k := range x.scale {
		top := 0.0
		for _, v := range x.load[k*x.gpus : (k+1)*x.gpus] {
			top = max(top, v)
		}
		sum += top
	}
	return sum / float64(len(x.scale))
}

// priceArcs sets the price of the whole of an expert at each of its arcs.
func (x *saddle) priceArcs(y []float64) {
	arcs := len(x.price)
	clear(x.price)
	for k := range x.scale {
		row, cell := y[k*x.gpus:(k+1)*x.gpus], x.cell[k*arcs:(k+1)*arcs]
		for a, g := range x.net.GPU {
			x.price[a] += float64(cell[a] * row[g])
		}
	}
}

// bound is the least sum of prices times loads that any weights have.
func (x *saddle) bound(y []float64) float64 {
	x.priceArcs(y)
	sum := 0.0
	for i, b := range x.base {
		sum += float64(b * y[i])
	}
	n := x.net
	for i := range n.Expert {
		least := math.Inf(1)
		for a := n.First[i]; a < n.First[i+1]; a++ {
			least = min(least, x.price[a])
		}
		sum += least
	}
	return sum * (1 - 1e-12)
}

// norm is about the largest singular value of the loads as a matrix.
func (x *saddle) norm() float64 {
	for a := range x.mean.x {
		x.mean.x[a] = 1
	}
	norm := 0.0
	for range 12 {
		clear(x.load)
		x.addLoads(x.mean.x, x.load)
		x.priceArcs(x.load)
		sum := 0.0
		for _, v := range x.price {
			sum += float64(v * v)
		}
		if sum == 0 {
			return 0
		}
		norm = math.Sqrt(sum)
		for a, v := range x.price {
			x.mean.x[a] = v / norm
		}
	}
	return math.Sqrt(norm)
}

// solve improves the weights x.now.x, which x.best holds too, of the given value; it
// returns the best's value and a bound no less than the given one.
func (x *saddle) solve(level, least float64) (float64, float64) {
	n, windows := x.net, len(x.scale)
	norm := x.norm()
	if norm == 0 { // there is nothing to choose
		return level, max(least, level*(1-1e-12))
	}
	if level <= least*(1+weightGap) {
		return level, least
	}
	speeds, mass := 0.0, 1/float64(windows)
	for _, v := range x.slow {
		if v > 0 {
			speeds += 1 / v
		}
	}
	for i := range x.now.y {
		x.now.y[i] = 0
		if v := x.slow[i%x.gpus]; v > 0 {
			x.now.y[i] = mass / v / speeds
		}
	}
	// The step is shared between x and y as far as each has to go.
	ratio := mass
	step := .99 / norm
	at := func(p *point) (gap float64) {
		v, d := x.value(p.x), x.bound(p.y)
		if v < level {
			level = v
			copy(x.best, p.x)
		}
		least = max(least, d)
		return v - d
	}
	start, steps := at(&x.now), 0
	x.restart()
	const check = 32
	rounds := weightWork / (check * (windows*(len(n.GPU)+x.gpus) + 1))
	for range min(max(rounds, 4), 4096) {
		if level <= least*(1+weightGap) {
			break
		}
		for range check {
			x.advance(step/ratio, float64(step*ratio))
		}
		steps += check
		for a, v := range x.sum.x {
			x.mean.x[a] = v / float64(steps)
		}
		for i, v := range x.sum.y {
			x.mean.y[i] = v / float64(steps)
		}
		last, mean := at(&x.now), at(&x.mean)
		if min(last, mean) > start/2 && steps < 1024 {
			continue
		}
		if mean < last {
			x.now.set(&x.mean)
		}
		if dx, dy := distance(x.now.x, x.from.x), distance(x.now.y, x.from.y); dx > 1e-9 && dy > 1e-9 {
			ratio = math.Sqrt(ratio * dy / dx)
		}
		start, steps = min(last, mean), 0
		x.restart()
	}
	return level, least
}

// restart begins a path from where it stands.
func (x *saddle) restart() {
	x.from.set(&x.now)
	clear(x.sum.x)
	clear(x.sum.y)
}

// advance takes a step of x and one of y.
func (x *saddle) advance(stepX, stepY float64) {
	n := x.net
	x.priceArcs(x.now.y)
	copy(x.ahead, x.now.x)
	for a, c := range x.price {
		x.now.x[a] -= float64(stepX * c)
	}
	for i := range n.Expert {
		x.project(x.now.x[n.First[i]:n.First[i+1]], nil, 1)
	}
	for a, old := range x.ahead {
		x.ahead[a] = float64(2*x.now.x[a]) - old
		x.sum.x[a] += x.now.x[a]
	}
	copy(x.load, x.base)
	x.addLoads(x.ahead, x.load)
	mass := 1 / float64(len(x.scale))
	for k := range x.scale {
		row := x.now.y[k*x.gpus : (k+1)*x.gpus]
		for g := range row {
			row[g] += float64(stepY * x.load[k*x.gpus+g])
		}
		x.project(row, x.slow, mass)
	}
	for i, v := range x.now.y {
		x.sum.y[i] += v
	}
}

// project moves v to the nearest point whose entries are ≥ 0 and add up to sum;
// entries where open is 0 become 0 (nil = all may be above).
func (x *saddle) project(v, open []float64, sum float64) {
	x.free = x.free[:0]
	for i, a := range v {
		if open == nil || open[i] > 0 {
			x.free = append(x.free, a)
		}
	}
	// Those that end at 0 are left out until none more does.
	cut := math.Inf(-1)
	for last := -1; len(x.free) != last; {
		last = len(x.free)
		total := -sum
		for _, a := range x.free {
			total += a
		}
		cut = total / float64(last)
		k := 0
		for _, a := range x.free {
			if a > cut {
				x.free[k] = a
				k++
			}
		}
		x.free = x.free[:max(k, 1)]
	}
	for i, a := range v {
		v[i] = 0
		if open == nil || open[i] > 0 {
			v[i] = max(0, a-cut)
		}
	}
}

// distance is that of two points.
func distance(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		d := v - b[i]
		sum += float64(d * d)
	}
	return math.Sqrt(sum)
}
