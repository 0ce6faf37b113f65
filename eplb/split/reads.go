package split

import (
	"cmp"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/internal/flow"
	"github.com/moelb/moelb/eplb/internal/problem"
)

// reads splits small batches, where a GPU's time goes into reading the weights
// of its activated experts, those with tokens in the batch, rather than into
// the tokens. A GPU costs reads times ReadCost plus tokens, over its speed.
//
// Fewest reads: that every activated expert picks one of its GPUs such that the
// largest reads/speed is least is a split of one token each, which flow does
// exactly. Tokens are then as even as that level allows.
//
// In between, a split of whole costs, as if reads could be shared, is a bound.
//
// Two splits are started from: that of the tokens, and one where every expert keeps
// only the GPU on which it costs most. From either it descends: from the
// costliest GPU an expert's tokens go to another of its GPUs, all or so many that
// the two come level.
type reads struct {
	price  float64   // of a read
	counts []int64   // what the flow splits
	costs  []float64 // of experts
	active []int64   // activated experts of each GPU
	tokens []int64   // of each GPU
	room   []int64   // most activated experts of each GPU
	kept   []int64   // tokens of each slot in the split that is put by
}

// splitReads is Split where reads cost something.
func (s *Splitter) splitReads(dst []int64, n *flow.Net, counts []int64, total int64) eplb.Layer {
	r, f := &s.reads, &s.flow
	active := int64(0)
	for e, tokens := range counts {
		r.counts[e] = min(tokens, 1)
		active += r.counts[e]
	}
	level := f.Split(n, r.counts)
	mean, bound := float64(active)/s.speeds, 0.0
	fewest := math.IsInf(s.ReadCost, 1)
	if r.price = 0; fewest {
		copy(r.room, f.Room)
		bound = level / mean
	} else {
		r.price = s.ReadCost
		for g := range r.room {
			r.room[g] = flow.MaxTokens
		}
		mean = (float64(r.price*float64(active)) + float64(total)) / s.speeds
		for e, tokens := range counts {
			r.costs[e] = float64(r.price*float64(min(tokens, 1))) + float64(tokens)
		}
		bound = max(level*r.price/mean*(1-1e-12), s.share(n, r.costs))
	}
	// The shares are put by while the flow splits tokens.
	r.kept = append(r.kept[:0], f.Quota...)
	// No split of tokens is more even, none of reads either.
	goal := max(f.Split(n, counts), bound*mean*(1+provedTolerance))
	top := r.descend(f)
	if top > goal {
		f.Quota, r.kept = r.kept, f.Quota
		for e, tokens := range counts {
			at := n.Of(e)
			most := slices.MaxFunc(at, func(i, j int32) int { return cmp.Compare(f.Quota[i], f.Quota[j]) })
			for _, i := range at {
				f.Quota[i] = 0
			}
			f.Quota[most] = tokens
		}
		if x := r.descend(f); x < top {
			top = x
		} else {
			f.Quota, r.kept = r.kept, f.Quota
		}
	}
	copy(dst, f.Quota)
	if fewest {
		return report(bound, bound)
	}
	return report(top/mean, bound)
}

// share splits loads as if they could be cut anywhere, and returns the imbalance that no
// split of them is below.
func (s *Splitter) share(n *flow.Net, loads []float64) (bound float64) {
	const units = flow.MaxTokens / 4            // what all loads add up to
	scale := units / max(problem.Sum(loads), 1) // of none
	for e, x := range loads {
		s.reads.counts[e] = int64(x * scale)
	}
	slow := 1.0
	for _, v := range n.Speed {
		if v > 0 {
			slow = min(slow, v)
		}
	}
	// Whole units may raise the level by one unit of the slowest GPU.
	return max(1, (s.flow.Split(n, s.reads.counts)-1/slow)*s.speeds/units*(1-1e-12))
}

// cost is what GPU g takes with so many more reads and tokens, +Inf where it may not read
// as many.
func (r *reads) cost(n *flow.Net, g int32, active, tokens int64) float64 {
	active, tokens = r.active[g]+active, r.tokens[g]+tokens
	switch {
	case active > r.room[g]:
		return math.Inf(1)
	case active == 0: // also where nothing is in service
		return 0
	}
	return (float64(r.price*float64(active)) + float64(tokens)) / n.Speed[g]
}

// descend lowers the largest cost of a GPU until no step does, at most one for each slot,
// and returns it.
func (r *reads) descend(f *flow.Flow) float64 {
	clear(r.active)
	clear(r.tokens)
	for i, q := range f.Quota {
		r.add(f.Net.GPU[i], min(q, 1), q)
	}
	for k := 0; ; k++ {
		h, top := int32(0), 0.0
		for g := range int32(len(r.tokens)) {
			if c := r.cost(f.Net, g, 0, 0); c > top {
				h, top = g, c
			}
		}
		from, to, tokens := r.step(f, h, top*(1-1e-12))
		if k == len(f.Quota) || tokens == 0 {
			return top
		}
		r.pass(f, from, -tokens)
		r.pass(f, to, tokens)
	}
}

// step finds the tokens that had better go from a slot of GPU h to another, after which
// the two GPUs cost least, if that is below top; 0 = none.
func (r *reads) step(f *flow.Flow, h int32, top float64) (from, to int32, tokens int64) {
	n := f.Net
	for a := int32(n.First[h]); a < int32(n.First[h+1]); a++ {
		e, q := n.Shared[a], f.Quota[a]
		if e < 0 || q == 0 || r.cost(n, h, -1, -q) >= top {
			continue // less of q would help less
		}
		for _, b := range n.Of(int(e)) {
			g := n.GPU[b]
			if g == h {
				continue
			}
			// All, or so many that the two come level.
			read := 1 - min(f.Quota[b], 1)
			k := (r.cost(n, h, 0, 0) - r.cost(n, g, read, 0)) / (1/n.Speed[h] + 1/n.Speed[g])
			for _, some := range [...]int64{q, int64(min(k, float64(q-1)))} {
				if x := max(r.cost(n, h, -some/q, -some), r.cost(n, g, read, some)); some > 0 && x < top {
					top, from, to, tokens = x, a, b, some
				}
			}
		}
	}
	return from, to, tokens
}

// pass adds tokens to a slot.
func (r *reads) pass(f *flow.Flow, i int32, tokens int64) {
	was := min(f.Quota[i], 1)
	f.Quota[i] += tokens
	r.add(f.Net.GPU[i], min(f.Quota[i], 1)-was, tokens)
}

// add adds to what a GPU has.
func (r *reads) add(g int32, active, tokens int64) {
	r.active[g] += active
	r.tokens[g] += tokens
}
