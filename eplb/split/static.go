package split

import (
	"fmt"
	"math"
	"slices"

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
// the mean that the weights reach, LowerBound what none is below, mostly 0.01% less.
// t must have p's GPUs; its zero value stands for equal speeds. Errors are
// *placement.Error: an invalid placement, a replica on a GPU out of service, no
// windows, loads of another shape. Cost: some 10 microseconds a layer of 288 slots for
// one window, up to tens of milliseconds for several.
func StaticWeights(p *placement.Placement, t placement.Topology, windows []placement.Loads) ([][]float64, []eplb.Layer, error) {
	s, err := New(p, t)
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
	weights, layers := make([][]float64, len(s.layers)), make([]eplb.Layer, len(s.layers))
	var x saddle
	for l := range layers {
		weights[l] = make([]float64, s.slots)
		layers[l] = s.weigh(weights[l], l, windows, &x)
	}
	return weights, layers, nil
}

// weigh finds the weights of one layer.
func (s *Splitter) weigh(dst []float64, l int, windows []placement.Loads, x *saddle) eplb.Layer {
	n := &s.layers[l]
	for _, h := range n.Alone {
		dst[h.Slot] = 1
	}
	x.set(s, n, l, windows)
	bound := s.shareMean(n, x)
	copy(x.best, x.now.x)
	level := bound
	if len(x.loads) > 0 {
		level, bound = x.solve(x.value(x.now.x), bound)
	}
	for a, i := range n.Slot {
		dst[i] = x.best[a]
	}
	// Windows without load are as even as can be.
	idle := float64(len(windows)-len(x.loads)) / float64(len(windows))
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
		for _, w := range x.loads {
			sum += w[e]
		}
		counts[e] = int64(sum / float64(max(len(x.loads), 1)) / s.speeds * units)
		total += counts[e]
	}
	bound = 1
	if level := s.flow.Split(n, counts, total); total > 0 {
		bound = max(bound, s.unitBound(n, level, units))
	}
	for a, i := range n.Owner {
		if all := counts[n.Expert[i]]; all > 0 {
			x.now.x[a] = float64(s.flow.Quota[a]) / float64(all)
		} else {
			x.now.x[a] = 1 / float64(n.First[i+1]-n.First[i])
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
// its last (primal-dual hybrid gradient): an expert as far as its loads, a window as
// far as its GPUs' loads allow. Every point is drawn towards the start by less and
// less, and once the gap has halved the path starts anew from there, which makes it
// converge geometrically. Sources: Pock and Chambolle, Diagonal preconditioning,
// ICCV 2011; Lu and Yang, Restarted Halpern PDHG, arXiv 2407.16144.
type saddle struct {
	net   *flow.Net
	gpus  int
	loads [][]float64 // of each window with load, in units of its mean load/speed
	slow  []float64   // 1/speed of each GPU; 0 = out of service
	base  []float64   // loads that no weight changes, [windows][GPUs], by speed
	cell  []float64   // loads of the whole of an expert, [windows][arcs], by speed
	paceX []float64   // of each expert
	paceY []float64   // of each window

	now, next, from point     // from is the path's start
	best, ahead     []float64 // weights
	load            []float64 // [windows][GPUs]
	price           []float64 // of each arc
}

// point is weights of the arcs, and prices of [windows][GPUs].
type point struct{ x, y []float64 }

// weightGap is how near to its bound a mean of imbalances is good enough.
const weightGap = 1e-4

// weightWork bounds the arcs looked at in the search for a layer's weights.
const weightWork = 1 << 26

// set takes the windows of a layer.
func (x *saddle) set(s *Splitter, n *flow.Net, l int, windows []placement.Loads) {
	x.net, x.gpus, x.loads = n, len(n.Speed), x.loads[:0]
	for _, w := range windows {
		sum := 0.0
		for _, v := range w[l] {
			sum += v
		}
		if sum == 0 {
			continue
		}
		row := make([]float64, len(w[l]))
		for e, v := range w[l] {
			row[e] = float64(v / sum * s.speeds) // the sum may be too small to be divided by
		}
		x.loads = append(x.loads, row)
	}
	x.slow = memory.Resize(x.slow, x.gpus)
	for g, v := range n.Speed {
		if x.slow[g] = 0; v > 0 {
			x.slow[g] = 1 / v
		}
	}
	gpus := len(x.loads) * x.gpus
	x.base = memory.Resize(x.base, gpus)
	clear(x.base)
	x.cell = x.cell[:0]
	for k, w := range x.loads {
		for _, h := range n.Alone {
			x.base[k*x.gpus+int(h.GPU)] += float64(w[h.Expert] * x.slow[h.GPU])
		}
		for a, g := range n.GPU {
			x.cell = append(x.cell, float64(w[n.Expert[n.Owner[a]]]*x.slow[g]))
		}
	}
	for _, v := range []*[]float64{&x.now.x, &x.next.x, &x.from.x, &x.ahead, &x.price, &x.best} {
		*v = memory.Resize(*v, len(n.GPU))
	}
	for _, v := range []*[]float64{&x.now.y, &x.next.y, &x.from.y, &x.load} {
		*v = memory.Resize(*v, gpus)
	}
}

// addLoads adds to x.load what every window's replicated experts put on the GPUs, by
// speed, under the given weights.
func (x *saddle) addLoads(weight []float64) {
	arcs := len(x.price)
	for k := range x.loads {
		row, cell := x.load[k*x.gpus:(k+1)*x.gpus], x.cell[k*arcs:(k+1)*arcs]
		for a, g := range x.net.GPU {
			row[g] += float64(cell[a] * weight[a])
		}
	}
}

// value is the mean of the windows' levels under the given weights.
func (x *saddle) value(weight []float64) float64 {
	copy(x.load, x.base)
	x.addLoads(weight)
	sum := 0.0
	for row := range slices.Chunk(x.load, x.gpus) {
		sum += slices.Max(row)
	}
	return sum / float64(len(x.loads))
}

// priceArcs sets the price of the whole of an expert at each of its arcs.
func (x *saddle) priceArcs(y []float64) {
	arcs := len(x.price)
	clear(x.price)
	for k := range x.loads {
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
	for i := range x.net.Expert {
		sum += slices.Min(x.ofExpert(x.price, i))
	}
	return sum * (1 - 1e-12)
}

// ofExpert is what a list of the arcs has of a replicated expert.
func (x *saddle) ofExpert(list []float64, i int) []float64 {
	return list[x.net.First[i]:x.net.First[i+1]]
}

// setPaces sets how far experts and windows may step: one over the largest sum of the
// loads of an arc, and of a GPU, none further than loads of a millionth of the mean.
func (x *saddle) setPaces() {
	ones := slices.Repeat([]float64{1}, max(len(x.load), len(x.price)))
	x.priceArcs(ones)
	clear(x.load)
	x.addLoads(ones)
	x.paceX, x.paceY = x.paceX[:0], x.paceY[:0]
	for i := range x.net.Expert {
		x.paceX = append(x.paceX, 1/max(slices.Max(x.ofExpert(x.price, i)), 1e-6))
	}
	for row := range slices.Chunk(x.load, x.gpus) {
		x.paceY = append(x.paceY, 1/max(slices.Max(row), 1e-6))
	}
}

// solve improves the weights x.now.x, which x.best holds too, of the given value; it
// returns the best's value and a bound no less than the given one.
func (x *saddle) solve(level, least float64) (float64, float64) {
	if level <= least*(1+weightGap) {
		return level, least
	}
	windows := len(x.loads)
	x.setPaces()
	speeds, mass := 0.0, 1/float64(windows)
	for _, v := range x.net.Speed {
		speeds += v
	}
	for i := range x.now.y {
		x.now.y[i] = mass * x.net.Speed[i%x.gpus] / speeds
	}
	// The step is shared between x and y as far as each has to go.
	ratio := 1.0
	start, steps := level-x.bound(x.now.y), 0
	x.restart(&x.now)
	const check = 32
	rounds := weightWork / (check * (windows*(len(x.price)+x.gpus) + 1))
	for range min(max(rounds, 4), 4096) {
		for range check {
			x.advance(ratio, steps)
			steps++
		}
		v, d := x.value(x.next.x), x.bound(x.next.y)
		if v < level {
			level = v
			copy(x.best, x.next.x)
		}
		if least = max(least, d); level <= least*(1+weightGap) {
			break
		}
		if v-d > start/2 && steps < 1024 {
			continue
		}
		if dx, dy := distance(x.next.x, x.from.x), distance(x.next.y, x.from.y); dx > 1e-9 && dy > 1e-9 {
			ratio = math.Sqrt(ratio * dy / dx)
		}
		start, steps = v-d, 0
		x.restart(&x.next)
	}
	return level, least
}

// restart begins a path.
func (x *saddle) restart(at *point) {
	for _, p := range []*point{&x.now, &x.from} {
		copy(p.x, at.x)
		copy(p.y, at.y)
	}
}

// advance takes a step of x and one of y, the path's next after so many.
func (x *saddle) advance(ratio float64, steps int) {
	x.priceArcs(x.now.y)
	for i, pace := range x.paceX {
		price, now, next, ahead := x.ofExpert(x.price, i), x.ofExpert(x.now.x, i), x.ofExpert(x.next.x, i), x.ofExpert(x.ahead, i)
		for a, c := range price {
			next[a] = now[a] - float64(pace/ratio*c)
		}
		project(next, 1)
		for a := range ahead {
			ahead[a] = float64(2*next[a]) - now[a]
		}
	}
	copy(x.load, x.base)
	x.addLoads(x.ahead)
	mass := 1 / float64(len(x.loads))
	for k, pace := range x.paceY {
		row := x.next.y[k*x.gpus : (k+1)*x.gpus]
		for g, open := range x.slow {
			i := k*x.gpus + g
			if row[g] = math.Inf(-1); open > 0 {
				row[g] = x.now.y[i] + float64(pace*ratio*x.load[i])
			}
		}
		project(row, mass)
	}
	back := 1 / float64(steps+2)
	draw := func(now, next, from []float64) {
		for i := range now {
			far := float64(2*next[i]) - now[i]
			now[i] = far + float64(back*(from[i]-far))
		}
	}
	draw(x.now.x, x.next.x, x.from.x)
	draw(x.now.y, x.next.y, x.from.y)
}

// project moves v to the nearest point whose entries are ≥ 0 and add up to sum.
func project(v []float64, sum float64) {
	// Those that end at 0 are left out until none more does.
	cut, last := math.Inf(-1), len(v)+1
	for {
		total, n := -sum, 0
		for _, a := range v {
			if a > cut {
				total += a
				n++
			}
		}
		if n == 0 || n >= last {
			break
		}
		last, cut = n, total/float64(n)
	}
	for i, a := range v {
		v[i] = max(0, a-cut)
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
