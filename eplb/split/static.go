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
	x, mean, row := newSaddle(n, s.experts), make([]float64, s.experts), make([]float64, s.experts)
	for _, w := range windows {
		if sum := problem.Sum(w[l]); sum > 0 {
			for e, v := range w[l] {
				row[e] = v / sum // which may be too small to be divided by
				mean[e] += row[e]
				row[e] *= s.speeds
			}
			x.add(row)
		}
	}
	bound := s.shareMean(n, dst, mean)
	level := bound
	if x.windows > 1 {
		level, bound = x.solve(dst, bound)
	}
	// Windows without load are as even as can be.
	busy := float64(x.windows) / float64(len(windows))
	return report(float64(level*busy)+1-busy, float64(bound*busy)+1-busy)
}

// shareMean sets weights to the best split of the windows' mean, where each counts
// alike; for one window that is all. Its level is a bound: the mean of maxima is
// no less than the maximum of the mean.
func (s *Splitter) shareMean(n *flow.Net, weights, mean []float64) (bound float64) {
	bound = s.share(n, mean)
	for e, all := range s.reads.counts {
		at := n.Of(e)
		for _, i := range at {
			if weights[i] = 1 / float64(len(at)); all > 0 {
				weights[i] = float64(s.flow.Quota[i]) / float64(all)
			}
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
// A point is the weights of the arcs, a block an expert, then the prices, [windows][GPUs],
// a block a window.
type saddle struct {
	net     *flow.Net
	slot    []int32   // of each arc: an expert's on one of several GPUs
	gpu     []int32   // of each arc
	experts int       // on several GPUs
	windows int       // with load
	base    []float64 // loads that no weight changes, [windows][GPUs], by speed, in units of the window's mean
	cell    []float64 // loads of the whole of an expert, [windows][arcs], the same
	first   []int32   // block i of a point is [first[i], first[i+1])
	slope   []float64 // of a point: the prices of arcs, and the loads of the GPUs
}

func newSaddle(n *flow.Net, experts int) *saddle {
	x := &saddle{net: n, first: []int32{0}}
	for e := range experts {
		at := n.Of(e)
		if len(at) < 2 {
			continue
		}
		for _, i := range at {
			x.slot, x.gpu = append(x.slot, i), append(x.gpu, n.GPU[i])
		}
		x.first = append(x.first, int32(len(x.slot)))
		x.experts++
	}
	return x
}

// weightGap is how near to its bound a mean of imbalances is good enough.
const weightGap = 1e-4

// weightWork bounds the arcs looked at in the search for a layer's weights.
const weightWork = 1 << 26

// add takes a window.
func (x *saddle) add(row []float64) {
	n, at := x.net, len(x.base)
	x.windows++
	x.base = append(x.base, make([]float64, len(n.Speed))...)
	for e, w := range row {
		if on := n.Of(e); len(on) == 1 {
			g := n.GPU[on[0]]
			x.base[at+int(g)] += w / n.Speed[g]
		}
	}
	for a, g := range x.gpu {
		x.cell = append(x.cell, row[n.Shared[x.slot[a]]]/n.Speed[g])
	}
	x.first = append(x.first, int32(len(x.gpu)+len(x.base)))
}

// addLoads adds what the weights put on every window's GPUs to their slopes.
func (x *saddle) addLoads(weights []float64) {
	arcs, experts := len(x.gpu), x.experts
	for k := range x.windows {
		load, cell := x.block(x.slope, experts+k), x.cell[k*arcs:(k+1)*arcs]
		for a, g := range x.gpu {
			load[g] += float64(cell[a] * weights[a])
		}
	}
}

// priceArcs makes the slopes of arcs what the whole of an expert costs there.
func (x *saddle) priceArcs(point []float64) {
	arcs, experts := len(x.gpu), x.experts
	clear(x.slope[:arcs])
	for k := range x.windows {
		price, cell := x.block(point, experts+k), x.cell[k*arcs:(k+1)*arcs]
		for a, g := range x.gpu {
			x.slope[a] += float64(cell[a] * price[g])
		}
	}
}

// gap is the mean of the windows' levels under a point's weights, and the least sum of
// prices times loads that any weights have under its prices.
func (x *saddle) gap(point []float64) (level, bound float64) {
	arcs, experts := len(x.gpu), x.experts
	x.priceArcs(point)
	copy(x.slope[arcs:], x.base)
	x.addLoads(point)
	for i := range x.first[1:] {
		if i < experts {
			bound += slices.Min(x.block(x.slope, i))
		} else {
			level += slices.Max(x.block(x.slope, i))
		}
	}
	for i, b := range x.base {
		bound += float64(b * point[arcs+i])
	}
	return level / float64(x.windows), bound * (1 - 1e-12)
}

// block is what a list of a point has of a block.
func (x *saddle) block(list []float64, i int) []float64 { return list[x.first[i]:x.first[i+1]] }

// step moves some blocks along their slopes, each as far as its pace, and sets next to the
// nearest points whose numbers are ≥ 0 and add up to sum.
func (x *saddle) step(now, next []float64, blocks int, pace []float64, far, sum float64) {
	for i, p := range pace {
		to := x.block(next, blocks+i)
		at, slope := x.block(now, blocks+i), x.block(x.slope, blocks+i)
		for a, c := range slope {
			to[a] = at[a] + float64(p*far*c)
		}
		project(to, sum)
	}
}

// solve improves the weights of slots; it returns their value and a bound no less than the
// given one.
func (x *saddle) solve(weights []float64, least float64) (level, bound float64) {
	const check = 32
	arcs, experts, gpus := len(x.gpu), x.experts, len(x.net.Speed)
	mass, speeds := 1/float64(x.windows), problem.Sum(x.net.Speed)
	var now []float64
	for _, i := range x.slot {
		now = append(now, weights[i])
	}
	for range x.windows {
		for _, v := range x.net.Speed {
			now = append(now, mass*v/speeds)
		}
	}
	x.slope = slices.Repeat([]float64{1}, len(now))
	ahead := slices.Clone(x.slope)
	x.priceArcs(ahead)
	clear(x.slope[arcs:])
	x.addLoads(ahead)
	// A block may step one over the largest sum of the loads of an arc, or of a GPU, none
	// further than loads of a millionth of the mean.
	pace := make([]float64, len(x.first)-1)
	for i := range pace {
		pace[i] = 1 / max(slices.Max(x.block(x.slope, i)), 1e-6)
	}
	level, bound = x.gap(now)
	next, from, start, steps := slices.Clone(now), slices.Clone(now), level-bound, 0
	// The step is shared between weights and prices as far as each has to go.
	ratio := 1.0
	rounds := weightWork / (check * (x.windows*(arcs+gpus) + 1))
	for k := 0; level > least*(1+weightGap) && k < min(max(rounds, 4), 4096); k++ {
		for range check {
			x.priceArcs(now)
			x.step(now, next, 0, pace[:experts], -1/ratio, 1)
			for a, to := range next[:arcs] {
				ahead[a] = float64(2*to) - now[a]
			}
			copy(x.slope[arcs:], x.base)
			x.addLoads(ahead)
			x.step(now, next, experts, pace[experts:], ratio, mass)
			steps++
			back := 1 / float64(steps+1)
			for i, to := range next {
				far := float64(2*to) - now[i]
				now[i] = far + float64(back*(from[i]-far))
			}
		}
		v, d := x.gap(next)
		if v < level {
			level = v
			for a, i := range x.slot {
				weights[i] = next[a]
			}
		}
		if least = max(least, d); v-d > start/2 && steps < 1024 {
			continue
		}
		if dw, dp := distance(next[:arcs], from), distance(next[arcs:], from[arcs:]); dw > 1e-9 && dp > 1e-9 {
			ratio = math.Sqrt(ratio * dp / dw)
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
