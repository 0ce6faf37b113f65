package pairs

import (
	"cmp"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// Search searches for counts on a few slots a GPU; its memory is used again for
// every layer.
type Search struct {
	s      *pack.Packer
	counts counts
}

func New(s *pack.Packer) *Search {
	n := len(s.W)
	return &Search{s: s, counts: counts{count: make([]int32, n), below: make([]int32, n)}}
}

// TwoEach says whether every GPU has two slots and the same speed. For given
// counts the best placement is then known: the largest replica goes with the
// smallest, the second largest with the second smallest, and so on (a fold), which is
// what packing by size makes. What is left to search is the counts.
func TwoEach(s *pack.Packer) bool {
	return s.U.Alike() && s.U.Slots == 2*len(s.U.Gpu)
}

// pairWork is what the search of counts may do for one level, in replicated
// experts looked at times copies left to give. The hardest of 256 experts seen
// took a tenth of it.
const pairWork = 1 << 22

// Search fills s.best for two slots a GPU and returns a proved bound, which
// the plan meets unless two replicas of one expert had to be parted, the search
// ran out of work, or it was stopped. Cost: 0.05 ms a layer of 256 experts.
func (f *Search) Search(bound float64, stop func() bool) float64 {
	s := f.s
	if !s.Adams(s.U.Slots, len(s.U.Gpu), nil) {
		return bound
	}
	s.Pack()
	s.Keep()
	p, least := f.ready()
	for ask := true; bound < s.Best.Level*(1-pack.ProvedTolerance) && !stop(); {
		// Adams' counts are often the best, so that is asked first; otherwise
		// halve the range until asking again is worth it.
		level := s.Best.Level
		T := level * (1 - pack.ProvedTolerance/2)
		if !ask {
			T = bound + (level-bound)/2
		}
		found, proved := p.reach(T, least, pairWork)
		switch {
		case found:
			f.take(false) // smaller ones make more partners for the big ones
			s.Pack()
			s.Keep()
			if s.Best.Level >= level {
				return bound
			}
		case proved:
			bound = max(bound, T)
		default:
			return bound
		}
		ask = s.Best.Level < bound*(1+1e-4)
	}
	return bound
}

// ready gives the counts the layer at hand, and returns what no replica is smaller
// than: the coldest expert cut into all spare copies.
func (f *Search) ready() (p *counts, least float64) {
	s := f.s
	p = &f.counts
	p.w, p.order, p.gpus, p.slots = s.W, s.Order, len(s.U.Gpu), s.U.Slots
	return p, s.W[s.Order[len(s.Order)-1]] / float64(s.U.Slots-len(s.W)+1)
}

// take takes the counts that were found, and gives what copies are left, one after
// another, to the largest replicas or to the smallest.
func (f *Search) take(largest bool) {
	s, p := f.s, &f.counts
	copy(s.Count, p.count)
	for range p.left {
		best, size := -1, 0.0
		for e, n := range s.Count { // some may be without load
			x := s.W[e] / float64(n)
			if int(n) < p.gpus && (best < 0 || largest && x > size || !largest && x < size) {
				best, size = e, x
			}
		}
		s.Count[best]++
	}
}

// run is the replicas of one replicated expert, all of one size.
type run struct {
	size float64
	id   int32
	n    int32
}

// largerFirst orders runs by size, the largest first, ties by index.
func largerFirst(a, b run) int {
	return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.id, b.id))
}
