package split

import (
	"fmt"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/internal/flow"
	"github.com/moelb/moelb/eplb/internal/problem"
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
	for l := range layers {
		weights[l] = make([]float64, s.slots)
		layers[l] = s.weigh(weights[l], l, windows)
	}
	return weights, layers, nil
}

// weigh finds the weights of one layer.
func (s *Splitter) weigh(dst []float64, l int, windows []placement.Loads) eplb.Layer {
	n := &s.layers[l]
	x := s.newSaddle(n, l, windows)
	level := s.shareMean(n, x)
	bound := level
	if x.windows > 0 {
		level, bound = x.solve(x.value(x.best), bound)
	}
	for _, h := range n.Alone {
		dst[h.Slot] = 1
	}
	for a, i := range n.Slot {
		dst[i] = x.best[a]
	}
	// Windows without load are as even as can be.
	busy := float64(x.windows) / float64(len(windows))
	return report(max(1, float64(level*busy)+1-busy), max(1, float64(bound*busy)+1-busy))
}

// shareMean starts from the best split of the windows' mean, where each counts
// alike; for one window that is all. Its level is a bound: the mean of maxima is
// no less than the maximum of the mean.
func (s *Splitter) shareMean(n *flow.Net, x *saddle) (bound float64) {
	const units = flow.MaxTokens / 4
	counts := s.reads.counts
	total := int64(0)
	for e, share := range x.mean {
		counts[e] = int64(share / float64(max(x.windows, 1)) * units)
		total += counts[e]
	}
	bound = 1
	if level := s.flow.Split(n, counts); total > 0 {
		bound = max(bound, s.unitBound(n, level, units))
	}
	for a, i := range n.Owner {
		if all := counts[n.Expert[i]]; all > 0 {
			x.best[a] = float64(s.flow.Quota[a]) / float64(all)
		} else {
			x.best[a] = 1 / float64(n.First[i+1]-n.First[i])
		}
	}
	return bound
}

// saddle minimises over the weights of arcs, and maximises over prices of the GPUs
// in each window, the sum of prices times loads: the weights of an expert add up
// to 1, and so do the prices of all windows' GPUs, as much in every window. At
// the saddle the weights are optimal, and any prices bound them: every expert goes
// where it is cheapest.
//
// It steps along both gradients in turn, each against the other's point ahead of
// its last (primal-dual hybrid gradient): an expert as far as its loads, a window as
// far as its GPUs' loads allow. Every point is drawn towards the start by less and
// less, and once the gap has halved the path starts anew from there, which makes it
// converge geometrically. Sources: Pock and Chambolle, Diagonal preconditioning,
// ICCV 2011; Lu and Yang, Restarted Halpern PDHG, arXiv 2407.16144.
//
// A point is the weights of the arcs, then the prices, [windows][GPUs].
type saddle struct {
	net     *flow.Net
	windows int       // with load
	mean    []float64 // each expert's share of the loads, over all windows
	base    []float64 // loads that no weight changes, [windows][GPUs], by speed, in units of the window's mean
	cell    []float64 // loads of the whole of an expert, [windows][arcs], the same
	load    []float64 // [windows][GPUs]
	price   []float64 // of each arc
	best    []float64 // weights
}

// weightGap is how near to its bound a mean of imbalances is good enough.
const weightGap = 1e-4

// weightWork bounds the arcs looked at in the search for a layer's weights.
const weightWork = 1 << 26

// newSaddle takes the windows of a layer.
func (s *Splitter) newSaddle(n *flow.Net, l int, windows []placement.Loads) *saddle {
	arcs := len(n.GPU)
	x := &saddle{net: n, mean: make([]float64, s.experts), price: make([]float64, arcs), best: make([]float64, arcs)}
	row := make([]float64, s.experts)
	for _, w := range windows {
		sum := problem.Sum(w[l])
		if sum == 0 {
			continue
		}
		x.windows++
		for e, v := range w[l] {
			row[e] = v / sum // which may be too small to be divided by
			x.mean[e] += row[e]
			row[e] *= s.speeds
		}
		x.load = append(x.load, n.Speed...)
		base := x.load[len(x.base):]
		clear(base)
		for _, h := range n.Alone {
			base[h.GPU] += row[h.Expert] / n.Speed[h.GPU]
		}
		x.base = append(x.base, base...)
		for a, g := range n.GPU {
			x.cell = append(x.cell, row[n.Expert[n.Owner[a]]]/n.Speed[g])
		}
	}
	return x
}

// addLoads adds to x.load what every window's replicated experts put on the GPUs
// under the given weights.
func (x *saddle) addLoads(weight []float64) {
	arcs := len(x.price)
	for k := range x.windows {
		row, cell := x.ofWindow(x.load, k), x.cell[k*arcs:(k+1)*arcs]
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
	for row := range slices.Chunk(x.load, len(x.net.Speed)) {
		sum += slices.Max(row)
	}
	return sum / float64(x.windows)
}

// priceArcs sets the price of the whole of an expert at each of its arcs.
func (x *saddle) priceArcs(y []float64) {
	arcs := len(x.price)
	clear(x.price)
	for k := range x.windows {
		row, cell := x.ofWindow(y, k), x.cell[k*arcs:(k+1)*arcs]
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

// ofWindow is what a list of all windows' GPUs has of one.
func (x *saddle) ofWindow(list []float64, k int) []float64 {
	return list[k*len(x.net.Speed) : (k+1)*len(x.net.Speed)]
}

// paces are how far experts and windows may step: one over the largest sum of the
// loads of an arc, and of a GPU, none further than loads of a millionth of the mean.
func (x *saddle) paces() (experts, windows []float64) {
	ones := slices.Repeat([]float64{1}, max(len(x.load), len(x.price)))
	x.priceArcs(ones[:len(x.load)])
	clear(x.load)
	x.addLoads(ones)
	for i := range x.net.Expert {
		experts = append(experts, 1/max(slices.Max(x.ofExpert(x.price, i)), 1e-6))
	}
	for row := range slices.Chunk(x.load, len(x.net.Speed)) {
		windows = append(windows, 1/max(slices.Max(row), 1e-6))
	}
	return experts, windows
}

// solve improves the weights x.best, of the given value; it returns the best's value
// and a bound no less than the given one.
func (x *saddle) solve(level, least float64) (float64, float64) {
	const check = 32
	if level <= least*(1+weightGap) {
		return level, least
	}
	arcs, gpus := len(x.price), len(x.net.Speed)
	mass, speeds := 1/float64(x.windows), problem.Sum(x.net.Speed)
	now := slices.Clone(x.best)
	for range x.windows {
		for _, v := range x.net.Speed {
			now = append(now, mass*v/speeds)
		}
	}
	next, from, ahead := slices.Clone(now), slices.Clone(now), slices.Clone(x.best)
	byExpert, byWindow := x.paces()
	// The step is shared between weights and prices as far as each has to go.
	ratio, start, steps := 1.0, level-x.bound(now[arcs:]), 0
	rounds := weightWork / (check * (x.windows*(arcs+gpus) + 1))
	for k := range check * min(max(rounds, 4), 4096) {
		x.priceArcs(now[arcs:])
		for i, pace := range byExpert {
			at, to := x.ofExpert(now, i), x.ofExpert(next, i)
			for a, c := range x.ofExpert(x.price, i) {
				to[a] = at[a] - float64(pace/ratio*c)
			}
			project(to, 1)
		}
		for a := range ahead {
			ahead[a] = float64(2*next[a]) - now[a]
		}
		copy(x.load, x.base)
		x.addLoads(ahead)
		for w, pace := range byWindow {
			at, to := x.ofWindow(now[arcs:], w), x.ofWindow(next[arcs:], w)
			for g, level := range x.ofWindow(x.load, w) {
				to[g] = at[g] + float64(pace*ratio*level)
			}
			project(to, mass)
		}
		steps++
		back := 1 / float64(steps+1)
		for i, to := range next {
			far := float64(2*to) - now[i]
			now[i] = far + float64(back*(from[i]-far))
		}
		if k%check < check-1 {
			continue
		}
		v, d := x.value(next), x.bound(next[arcs:])
		if v < level {
			level = v
			copy(x.best, next)
		}
		if least = max(least, d); level <= least*(1+weightGap) {
			break
		}
		if v-d > start/2 && steps < 1024 {
			continue
		}
		if dx, dy := distance(next[:arcs], from), distance(next[arcs:], from[arcs:]); dx > 1e-9 && dy > 1e-9 {
			ratio = math.Sqrt(ratio * dy / dx)
		}
		start, steps = v-d, 0
		copy(now, next)
		copy(from, next)
	}
	return level, least
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
