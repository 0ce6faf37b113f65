package simulate

import (
	"math/rand/v2"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/decode"
)

// decodeUnit is one unit that generates tokens, one a request and step.
type decodeUnit struct {
	unitState
	placer decode.Batcher
	clock  *decodeClock
	kv     []int64 // by rank
	n      []int64
	first  []int32 // the requests of a rank, latest first; -1 = none
	total  int64   // requests
	tokens int64   // of KV, with those that wait
	wheel  []int32 // requests by the step in which they end, modulo its length
	wait   []int32 // transferred or on their way, in order
}

// wheelSize is how many steps ahead a request's end is told apart; later ones
// pass by and stay.
const wheelSize = 1 << 12

// decodeClock says how long a decode step takes.
type decodeClock struct {
	kernels cost.Kernels
	unit    *cost.Unit
	experts *experts
	// By requests of a rank, both micro-batches: the stages of half of them.
	before, projection, dense []float64
	coreKV, coreStart         float64 // seconds of core attention: a KV token of the rank, and in any case
	rows                      *table
	// m is each layer's and rank's experts, [layers x ranks], for about total
	// requests; it is drawn anew as they change, and every freshSteps.
	m              []float64
	top            []float64 // by layer: the largest of m
	received       []float64 // by layer: tokens of the busiest receiver
	mean           float64   // of m
	total          int64
	version, fresh int
	noise          rand.PCG
	p, q           []float64
	d0, d1, k0, k1 float64 // dispatch and combine: start, and a copy
	// The last exact step: its layers' time, and how often the busiest rank's p and
	// q enter it.
	half, lastP, lastQ float64
	countP, countQ     float64
	// sums of max and mean, for the report
	maxKV, meanKV, maxN, meanN float64
}

const freshSteps = 64

// exactSteps is how often all ranks of all layers are looked at; the steps
// between follow the busiest ranks' stages, in the layers whose time they set.
const exactSteps = 8

func newDecodeClock(u *cost.Unit, e *experts, maxRequests int, seed uint64) *decodeClock {
	n, layers := u.Ranks(), u.Model.Layers
	c := &decodeClock{kernels: u.Kernels(), unit: u, experts: e, m: make([]float64, layers*n), top: make([]float64, layers), received: make([]float64, layers), p: make([]float64, n), q: make([]float64, n)}
	c.noise.Seed(seed, 2)
	for i := range maxRequests + 1 {
		t := float64(i) / 2
		c.before = append(c.before, c.kernels.DecodeBefore(t))
		c.projection = append(c.projection, c.kernels.DecodeProjection(t))
		c.dense = append(c.dense, c.kernels.DecodeDense(t))
	}
	const much = 1 << 20
	c.coreStart = c.kernels.Factors.DecodeCore
	c.coreKV = (c.kernels.DecodeCore(cost.DecodeRank{Requests: 1, KV: much, Queries: 1}) - c.coreStart) / much / 2
	slots := u.SlotsEach()
	c.rows = newTable(float64(maxRequests)*4*float64(u.Model.TopK), 4096, func(x float64) float64 { return c.kernels.DecodeExperts(x, slots) })
	c.d0, c.k0 = c.kernels.DecodeNetwork(1e-9, n)
	d, k := c.kernels.DecodeNetwork(1e6, n)
	c.d1, c.k1 = (d-c.d0)/1e6, (k-c.k0)/1e6
	return c
}

// draw sets what the experts of each layer and rank get in a micro-batch.
func (c *decodeClock) draw(total int64) {
	n := len(c.p)
	routed := float64(total) / 2 * float64(c.unit.Model.TopK)
	sum := 0.0
	for l := range c.top {
		top, received := 0.0, 0.0
		row, share := c.m[l*n:(l+1)*n], c.experts.share[l*n:(l+1)*n]
		for g, x := range share {
			rows := scatter(&c.noise, float64(routed*x))
			row[g] = c.rows.value(rows)
			sum += row[g]
			top, received = max(top, row[g]), max(received, rows)
		}
		c.top[l], c.received[l] = top, received
	}
	c.mean = sum / float64(len(c.m))
	c.total, c.version, c.fresh = total, c.experts.version, 0
}

// seconds is how long the next step takes, and how many GPU-seconds of it are
// computing.
func (c *decodeClock) seconds(kv, n []int64, total int64) (step, computed float64) {
	if off := total - c.total; c.fresh >= freshSteps || c.version != c.experts.version || off*50 > c.total || -off*50 > c.total {
		c.draw(total)
	}
	c.fresh++
	mostN, mostKV, sumKV, dense, work := int64(0), int64(0), int64(0), 0.0, 0.0
	mostP, mostQ := 0.0, 0.0
	layers := float64(c.unit.Model.Layers)
	for g, x := range n {
		core := c.coreStart + float64(c.coreKV*float64(kv[g]))
		if x == 0 {
			core = 0
		}
		c.p[g], c.q[g] = c.before[x], core+c.projection[x]
		dense = max(dense, core+c.dense[x])
		work += c.p[g] + c.q[g]
		mostP, mostQ = max(mostP, c.p[g]), max(mostQ, c.q[g])
		mostN, mostKV, sumKV = max(mostN, x), max(mostKV, kv[g]), sumKV+kv[g]
	}
	ranks := len(n)
	c.maxKV, c.meanKV = c.maxKV+float64(mostKV), c.meanKV+float64(sumKV)/float64(ranks)
	c.maxN, c.meanN = c.maxN+float64(mostN), c.meanN+float64(total)/float64(ranks)
	if c.fresh%exactSteps == 1 {
		c.layers(float64(mostN) / 2 * float64(c.unit.Model.TopK))
		c.lastP, c.lastQ = mostP, mostQ
	}
	half := c.half + float64(c.countP*(mostP-c.lastP)) + float64(c.countQ*(mostQ-c.lastQ))
	host := c.kernels.Head(float64(mostN)) + c.unit.Factors.Host
	step = float64(2*half) + float64(2*float64(c.unit.Model.DenseLayers)*dense) + host
	computed = 2*layers*(work+float64(float64(ranks)*c.mean)) + float64(ranks)*(2*float64(c.unit.Model.DenseLayers)*dense+host-c.unit.Factors.Host)
	return step, computed
}

// layers adds up the half-layers of a step whose busiest rank sends so many
// copies of tokens.
func (c *decodeClock) layers(sent float64) {
	ranks := len(c.p)
	p, q := c.p, c.q[:ranks]
	c.half, c.countP, c.countQ = 0, 0, 0
	for l := range c.top {
		copies := max(sent, c.received[l])
		d, k := c.d0+float64(c.d1*copies), c.k0+float64(c.k1*copies)
		m := c.m[l*ranks : (l+1)*ranks]
		m = m[:len(p)]
		all, after, before := 0.0, 0.0, 0.0
		for g, x := range m {
			a, b := p[g]+x, x+q[g]
			if e := a + q[g]; e > all {
				all = e
			}
			if b > after {
				after = b
			}
			if a > before {
				before = a
			}
		}
		t := max(all, d+after, k+before, d+c.top[l]+k)
		c.half += t
		if t == all || t == k+before {
			c.countP++
		}
		if t == all || t == d+after {
			c.countQ++
		}
	}
}

// decodeCost is the unit's cost as a balancer wants it: a line in requests through
// an empty rank and a full one, and what KV adds.
func (c *decodeClock) decodeCost() decode.Cost {
	times := 2 * float64(c.unit.Model.AllLayers())
	most := len(c.before) - 1
	slope := (c.before[most] + c.projection[most] - c.before[0] - c.projection[0]) / float64(most)
	return decode.Cost{KV: times * c.coreKV, Request: times * slope}
}
