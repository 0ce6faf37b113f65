package divide

import (
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/moelb/moelb/eplb/internal/bounds"
	"github.com/moelb/moelb/eplb/internal/flow"
	"github.com/moelb/moelb/eplb/internal/pack"
	"github.com/moelb/moelb/eplb/internal/problem"
)

// Planner is what planning for a split of every batch needs beside the
// solver. Its memory is used again for every layer.
type Planner struct {
	s      *pack.Packer
	unit   *flow.Unit
	net    flow.Net
	flow   flow.Flow
	counts []int64 // of the given loads
	total  int64

	noise []int64 // token counts of some batches, [batches][experts]
	sums  [noisyBatches]int64

	split float64 // level of the best split of the given loads on the packer's best plan
	batch float64 // and of noisy batches, the mean

	bounded int     // 1 + the layer that bound is of
	bound   float64 // on the split of all its windows
}

const (
	// noisyBatches is how many batches a plan for the split is tried on. Without them
	// 256 experts on 32 GPUs of 9 slots, or 384 on 48 of 9, stand 2% higher on batches
	// of as many tokens, on 32 of 10 .2%.
	noisyBatches = 16
	// batchTokens is the tokens of such a batch for each GPU: 128 requests
	// routed to 8 experts each. Fewer tokens are noisier.
	batchTokens = 1024
	// grain cuts a token of the noisy batches, so that rounding to whole ones
	// does not hide what a plan can do.
	grain = 64
	// evenSlack is how uneven a plan may be under an even split, which engines fall back
	// on, unless noisy batches stay as uneven on all such plans: without the exception
	// those of 3 to 6 slots a GPU stand .2% higher. It does not bind clusters.
	evenSlack = 4e-3
	// quietBatch is the level of noisy batches that ends the search.
	quietBatch = 1.0005
	// SameSplit is how near two splits are to count as equal.
	SameSplit = 1e-6
	// clusterGain is how much a split must be able to gain before clusters,
	// which an even split fares badly on, are tried.
	clusterGain = 1e-3
)

func New(s *pack.Packer) *Planner {
	u := s.U
	speed := u.Speed
	if u.Equal {
		speed = nil
	}
	return &Planner{s: s, unit: flow.NewUnit(u.First, len(s.W), speed), counts: make([]int64, len(s.W))}
}

// set takes the loads of the solver.
func (p *Planner) set() {
	s := p.s
	// A total well below flow.MaxTokens: loads add up to the number of GPUs.
	scale := math.Ldexp(flow.MaxTokens/4, -bits.Len(uint(len(s.U.Gpu)-1)))
	p.total = 0
	for e, w := range s.W {
		p.counts[e] = int64(math.Round(w * scale))
		p.total += p.counts[e]
	}
}

// setNoise draws the noisy batches of the layer and forgets the best plan.
func (p *Planner) setNoise() {
	experts := len(p.s.W)
	rng := rand.New(rand.NewPCG(noisyBatches, batchTokens))
	p.noise, p.sums = p.noise[:0], [noisyBatches]int64{}
	for b := range p.sums {
		for e := range experts {
			// Four uniform draws are normal enough.
			x := rng.Float64() + rng.Float64() + rng.Float64() + rng.Float64() - 2
			n := float64(p.s.W[e] * batchTokens)
			n += float64(x * math.Sqrt(3*n))
			k := int64(math.Round(max(n, 0) * grain))
			p.noise = append(p.noise, k)
			p.sums[b] += k
		}
	}
	p.split, p.batch = math.Inf(1), math.Inf(1)
}

// least is the least level of a split of counts, in units of the mean load, on
// the placement that was linked.
func (p *Planner) least(counts []int64, total int64) float64 {
	// Speeds are scaled to a mean of 1.
	return p.flow.Split(&p.net, counts) * float64(len(p.s.U.Gpu)) / float64(total)
}

// given is the level of the best split of the given loads.
func (p *Planner) given(slot []int32) float64 {
	flow.Link(p.unit, &p.net, slot)
	return p.least(p.counts, p.total)
}

// offer keeps a plan if it is better than the best so far: if the split of the
// given loads is more even, or as even and that of noisy batches more so.
func (p *Planner) offer(slot, count []int32) {
	split := p.given(slot)
	if split > p.split*(1+SameSplit) {
		return
	}
	batch := 0.0
	for i, sum := range p.sums {
		batch += p.least(p.noise[i*len(count):(i+1)*len(count)], sum) / noisyBatches
	}
	if split >= p.split*(1-SameSplit) && batch >= p.batch {
		return
	}
	p.split, p.batch = split, batch
	copy(p.s.Best.Slot, slot)
	copy(p.s.Best.Count, count)
}

// Plan improves s.best, the plan for an even split, for a split of every batch, and
// returns a lower bound for the split of the given loads. Cost: 1 to 10 milliseconds for 256
// experts and 288 slots.
func (p *Planner) Plan(tolerance float64, stop func() bool) (bound float64) {
	s := p.s
	p.set()
	p.setNoise()
	p.offer(s.Best.Slot, s.Best.Count)
	bound = bounds.Split(s)
	goal := bound * (1 + tolerance)
	limit := max(1+evenSlack, s.Best.Level)
	if int64(s.U.Slots)*int64(len(s.U.Gpu)) > bounds.SplitWork {
		stop = func() bool { return true }
	}
	quiet := func() bool { return p.batch <= quietBatch && p.split <= goal }
	for _, most := range [2]float64{limit, math.Inf(1)} {
		for i := -1; i < len(pack.CapLimits) && !quiet() && !stop(); i++ {
			if !s.CountBy(i, bound) {
				continue
			}
			s.PackApart()
			pin(s)
			s.Swap(goal)
			s.Refresh()
			if _, level := s.Fullest(); level <= most {
				p.offer(s.Slot, s.Count)
			}
		}
		if p.batch <= limit {
			break
		}
	}
	if p.split > bound*(1+clusterGain) && !stop() {
		p.planClusters(goal)
	}
	p.refine(goal, stop)
	s.Best.Level = p.split
	return bound
}

// pin keeps swap from moving replicated experts: every GPU counts as holding them.
func pin(s *pack.Packer) {
	for e, c := range s.Count {
		if c > 1 {
			for g := range s.U.Gpu {
				s.Has[g*s.Words+e>>6] |= 1 << (e & 63)
			}
		}
	}
}

// Over is the level of a placement of layer l under the best split of its loads, over
// windows each split by itself, in proportion to their tokens, and a bound on that of
// any, which is found once a layer.
func (p *Planner) Over(q *problem.Problem, l int, slot []int32) (split, bound float64) {
	known, all := p.bounded == l+1, 0.0
	if !known {
		p.bounded, p.bound = l+1, 0
	}
	for _, w := range q.Windows {
		sum := problem.Sum(w[l])
		if sum == 0 {
			continue
		}
		if len(q.Windows) == 1 {
			sum = 1
		}
		all += sum
		p.s.SetLoads(w[l])
		p.set()
		split += float64(p.given(slot) * sum)
		if !known {
			p.bound += float64(bounds.Split(p.s) * sum)
		}
	}
	if all == 0 {
		return 1, 1
	}
	return split / all, p.bound / all * (1 - 1e-12)
}
