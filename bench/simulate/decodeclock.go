package simulate

import (
	"math/rand/v2"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/decode"
)

// decodeClock says how long a decode step takes.
type decodeClock struct {
	kernels cost.Kernels
	unit    *cost.Unit
	experts *experts.Experts
	// By requests of a rank, all micro-batches: the stages of one of them.
	before, shared, projection, dense, coreStart []float64
	coreKV                                       float64 // seconds of core attention a KV token of the rank
	bent                                         bool    // core attention is no line in KV tokens
	batches, queries, share                      float64
	rows                                         *table
	// m is each layer's and rank's experts, [layers x ranks], for about total
	// requests; one layer is drawn anew in each step.
	m              []float64
	top            []float64 // by layer: the largest of m
	sum            []float64 // of m
	received       []float64 // by layer: tokens of the busiest receiver
	total          int64
	version, step  int
	noise          rand.PCG
	p, q           []float64
	d0, d1, k0, k1 float64 // dispatch and combine: start, and a copy
	half           []halfLayer
	// sums of max and mean, for the report
	maxKV, meanKV, maxN, meanN float64
}

// halfLayer is how long a layer took one micro-batch when it was last looked at, less
// what the busiest rank's p and q had in it, and how often they enter it: in between
// it follows them.
type halfLayer struct{ rest, p, q float64 }

func newDecodeClock(u *cost.Unit, e *experts.Experts, maxRequests int, queries float64, seed uint64) *decodeClock {
	n, layers := u.Ranks(), u.Model.Layers
	c := &decodeClock{batches: u.Batches(), queries: queries, share: u.StepShare(), bent: u.Model.Attended > 0 || u.Model.WindowLayers > 0, kernels: u.Kernels(), unit: u, experts: e, m: make([]float64, layers*n), top: make([]float64, layers), sum: make([]float64, layers), received: make([]float64, layers), half: make([]halfLayer, layers), p: make([]float64, n), q: make([]float64, n)}
	c.noise.Seed(seed, 2)
	for i := range maxRequests + 1 {
		t := float64(i) * queries / c.batches
		c.before = append(c.before, c.kernels.DecodeBefore(t))
		c.shared = append(c.shared, c.kernels.DecodeShared(t))
		c.coreStart = append(c.coreStart, c.kernels.DecodeCore(cost.DecodeRank{Requests: t / queries, Queries: queries}))
		c.projection = append(c.projection, c.kernels.DecodeProjection(t))
		c.dense = append(c.dense, c.kernels.DecodeDense(t))
	}
	const much = 1 << 20
	c.coreKV = (c.kernels.DecodeCore(cost.DecodeRank{Requests: 1, KV: much, Queries: queries}) - c.kernels.DecodeCore(cost.DecodeRank{Requests: 1, Queries: queries})) / much / c.batches
	slots := u.SlotsEach()
	c.rows = newTable(float64(maxRequests)*4*float64(u.Model.TopK), 4096, func(x float64) float64 { return c.kernels.DecodeExperts(x, slots) })
	c.d0, c.k0 = c.kernels.DecodeNetwork(1e-9, n)
	d, k := c.kernels.DecodeNetwork(1e6, n)
	c.d1, c.k1 = (d-c.d0)/1e6, (k-c.k0)/1e6
	return c
}

// draw sets what the experts of each rank get of a micro-batch in layer l.
func (c *decodeClock) draw(l int, total int64) {
	n := len(c.p)
	routed := float64(total) * c.queries / c.batches * float64(c.unit.Model.TopK)
	top, received, sum := 0.0, 0.0, 0.0
	row, share := c.m[l*n:(l+1)*n], c.experts.Share(l)
	for g := range row {
		rows := scatter(c.noise.Uint64(), float64(routed*share[g]))
		m := c.rows.value(rows)
		row[g] = m
		sum += m
		if m > top {
			top = m
		}
		if rows > received {
			received = rows
		}
	}
	c.top[l], c.sum[l], c.received[l] = top, sum, received
}

// seconds is how long the next step takes, and how many GPU-seconds of it are
// computing.
func (c *decodeClock) seconds(kv, n []int64, total int64) (step, computed float64) {
	mostN, mostKV, sumKV, dense, work := int64(0), int64(0), int64(0), 0.0, 0.0
	mostP, mostQ := 0.0, 0.0
	layers := float64(c.unit.Model.Layers)
	for g, x := range n {
		core := c.core(x, kv[g])
		c.p[g], c.q[g] = c.before[x], core+c.projection[x]
		dense = max(dense, core+c.dense[x])
		work += c.p[g] + c.q[g]
		mostP, mostQ = max(mostP, c.p[g]), max(mostQ, c.q[g])
		mostN, mostKV, sumKV = max(mostN, x), max(mostKV, kv[g]), sumKV+kv[g]
	}
	ranks := len(n)
	c.maxKV, c.meanKV = c.maxKV+float64(mostKV), c.meanKV+float64(sumKV)/float64(ranks)
	c.maxN, c.meanN = c.maxN+float64(mostN), c.meanN+float64(total)/float64(ranks)
	half, experts := c.layers(mostN, mostP, mostQ, n, total)
	head := c.kernels.Head(float64(mostN) * c.queries)
	draft := (c.queries - 1) / c.queries * (float64(c.batches*half)/layers + head) / c.share
	others := float64(c.batches * float64(c.unit.Model.DenseLayers) * dense)
	step = (float64(c.batches*half)+others+head)/c.share + draft + c.unit.Factors.Host
	computed = (c.batches*layers*(work+experts)+float64(ranks)*(others+head))/c.share + float64(ranks)*draft
	return step, computed
}

// core is the core attention of one layer and micro-batch of a rank.
func (c *decodeClock) core(requests, kv int64) float64 {
	switch {
	case requests == 0:
		return 0
	case c.bent:
		return c.kernels.DecodeCore(cost.DecodeRank{Requests: float64(requests) / c.batches, KV: float64(kv) / c.batches, Queries: c.queries})
	}
	return c.coreStart[requests] + float64(c.coreKV*float64(kv))
}

// layers adds up the half-layers of a step whose busiest rank has mostN requests and
// stages of so many seconds, and the experts' seconds of all ranks in a layer. One
// layer in layerTurns is looked at, and the others follow their busiest ranks; all
// are where requests have changed by an eighth since, or the experts' placement has.
func (c *decodeClock) layers(mostN int64, mostP, mostQ float64, n []int64, total int64) (half, experts float64) {
	count := len(c.half)
	off := total - c.total
	every, from := min(layerTurns, count), c.step%min(layerTurns, count)
	if c.version != c.experts.Version() || off*8 > c.total || -off*8 > c.total {
		every, from = 1, 0
		c.total, c.version = total, c.experts.Version()
		for l := range c.half {
			c.draw(l, total)
		}
	} else {
		// One of those that are looked at, each in its turn.
		each := (count - from + every - 1) / every
		c.draw(from+c.step/every%each*every, total)
		if c.step++; c.step%count == 0 {
			c.total = total
		}
	}
	sent := float64(mostN) * c.queries / c.batches * float64(c.unit.Model.TopK)
	for l := from; l < count; l += every {
		copies := max(sent, c.received[l])
		d, k := c.d0+float64(c.d1*copies), c.k0+float64(c.k1*copies)
		t, p, q := c.halfLayer(l, d, k, mostP, mostQ, n)
		c.half[l] = halfLayer{t - float64(p*mostP) - float64(q*mostQ), p, q}
	}
	rest, p, q := 0.0, 0.0, 0.0
	for l, h := range c.half {
		rest, p, q = rest+h.rest, p+h.p, q+h.q
		experts += c.sum[l]
	}
	return rest + float64(p*mostP) + float64(q*mostQ), experts / float64(count)
}

// halfLayer is how long layer l takes a micro-batch, and how often the busiest rank's
// p and q, of mostP and mostQ seconds, enter that.
func (c *decodeClock) halfLayer(l int, d, k, mostP, mostQ float64, n []int64) (t, p, q float64) {
	ranks := len(c.p)
	m := c.m[l*ranks : (l+1)*ranks]
	if c.unit.Overlap != cost.TwoBatch {
		s := cost.Decode{Overlap: c.unit.Overlap, Before: c.p, After: c.q, Experts: m, Shared: make([]float64, ranks), Dispatch: d, Combine: k}
		for g, x := range n {
			s.Shared[g] = c.shared[x]
		}
		return s.HalfLayer(), 1, 1
	}
	// What no rank can be the longest in is not looked at.
	all, after, before := 0.0, 0.0, 0.0
	ps, qs := c.p[:len(m)], c.q[:len(m)]
	t = d + c.top[l] + k
	if mostP+c.top[l]+mostQ >= t {
		for g, x := range m {
			if e := ps[g] + x + qs[g]; e > all {
				all = e
			}
		}
		t = max(t, all)
	}
	if d+(c.top[l]+mostQ) >= t {
		for g, x := range m {
			if e := x + qs[g]; e > after {
				after = e
			}
		}
		t = max(t, d+after)
	}
	if k+(mostP+c.top[l]) >= t {
		for g, x := range m {
			if e := ps[g] + x; e > before {
				before = e
			}
		}
		t = max(t, k+before)
	}
	if t == all || t == k+before {
		p = 1
	}
	if t == all || t == d+after {
		q = 1
	}
	return t, p, q
}

// decodeCost is the unit's cost as a balancer wants it, a token: a line in requests
// through an empty rank and a full one, and what KV adds.
func (c *decodeClock) decodeCost(perStep float64) decode.Cost {
	times := c.batches * float64(c.unit.Model.AllLayers()) / perStep
	most := len(c.before) - 1
	slope := (c.before[most] + c.projection[most] - c.before[0] - c.projection[0]) / float64(most)
	return decode.Cost{KV: times * c.coreKV, Request: times * slope}
}
